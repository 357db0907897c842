"""The service as a process, under abuse that goes on for minutes: it stays small, answers, and ends when told to."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pytest_claude_tokens.judge import History
from tests.unit.transports.abuse import abuse, shapes
from tests.unit.transports.raw import PATIENCE, raw, request

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1200)]

ROUNDS = 10
CROWD = 5000
MOST_MEGABYTES = 400
"""What such a service may take up; with answers that nobody reads it was a gigabyte."""


def megabytes(process: subprocess.Popen) -> int:
    """The memory that it has taken up at most."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_a_service_survives_whatever_is_done_to_it(tmp_path):
    """In any order, by thousands at a time; each round ends with an answer, the last one with a whole history."""
    draw = random.Random(54999)
    history = tmp_path / "h.jsonl"
    command = [sys.executable, "-m", "fake_server", "--history", str(history)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            facts = json.loads(process.stdout.readline())
            bearer = facts["accounts"][0]["credentials"]["claudeAiOauth"]["accessToken"]
            ports = [int(facts[name].rpartition(":")[2]) for name in ("url", "proxy")]
            kept = []
            for _ in range(ROUNDS):
                todo = list(shapes(bearer))
                draw.shuffle(todo)
                clients = [abuse(draw.choice(ports), shape) for shape in todo]
                kept += [client for client in clients if client is not None]
                while len(kept) > 200:
                    kept.pop(draw.randrange(len(kept))).close()
                assert httpx.get(f"{facts['url']}/api/hello", timeout=PATIENCE).status_code == 200
            with raw(ports[0]) as greedy:
                greedy.send(request("GET", "/_claude_tokens/history") * 3000)
                for _ in range(CROWD):
                    abuse(ports[0], (request("GET", "/api/hello"), "all", "close"))
                assert httpx.get(f"{facts['url']}/api/hello", timeout=PATIENCE).status_code == 200
                assert megabytes(process) < MOST_MEGABYTES
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) in (0, 1)
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
            for client in kept:
                client.close()
    assert not History.load(history).torn
