"""A handle's endpoints in the body of a search: its server, its proxy, its environment, its processes."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest
from hypothesis import settings

from pytest_claude_tokens import ClaudeTokens, explore
from tests.unit.explore.common import hello, search

few = settings(database=None, derandomize=True, max_examples=3)
SEEN: list[object] = []


def ask(tokens):
    """A request of another client, over a real socket, and over TLS to the real host's name."""
    environment = tokens.env(worker="w7")
    assert os.path.exists(tokens.ca_file)
    with tokens.environ():
        assert os.environ["HTTPS_PROXY"] == tokens.proxy_url
    SEEN.append(environment["ANTHROPIC_BASE_URL"])


@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_server_proxy_and_environment_are_there(kind):
    """In tasks and in threads; the server is one for all runs, and answers nobody afterwards."""
    SEEN.clear()

    async def test_tasks(claude_tokens, workers):
        ask(claude_tokens)
        await workers(hello)

    def test_threads(claude_tokens, workers):
        ask(claude_tokens)
        workers(lambda: httpx.get("https://api.anthropic.com/api/hello"))

    assert search(few(explore(workers=2)(test_tasks if kind == "tasks" else test_threads))).error is None
    assert len(SEEN) >= 3
    assert len(set(SEEN)) == 1  # one server for all runs
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{SEEN[-1]}/api/hello", trust_env=False)


def test_process_is_waited_for_in_real_time():
    """Its end and its output are there, a time-out is one of real seconds, and each run is the same."""

    async def test_it(claude_tokens, workers):
        process = claude_tokens.spawn([sys.executable, "-c", "import time; time.sleep(0.05); print('done')"])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.001)
        assert (process.wait(60), process.stdout) == (0, "done\n")
        await workers(hello)

    assert search(few(explore(workers=2)(test_it))).error is None


def test_what_fails_to_start_is_told():
    """By its own error, as outside of a search."""

    async def test_it(claude_tokens, workers):
        claude_tokens._endpoints._start_sockets = fail
        assert claude_tokens.url

    def fail():
        raise OSError("taken")

    assert str(search(few(explore(workers=2)(test_it))).error) == "taken"


FROZEN = """
import datetime
from freezegun import freeze_time
from pytest_claude_tokens import ClaudeTokens

with freeze_time("2020-02-02"), ClaudeTokens() as tokens:
    assert tokens.proxy_url.startswith("http://127.0.0.1:")
    assert datetime.datetime.now().year == 2020

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now()
builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1)
builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(1)).sign(key, hashes.SHA256())
print(type(now), x509.load_pem_x509_certificate)
"""


def test_certificate_that_is_made_under_frozen_time_leaves_nothing():
    """Compiled code keeps the class for a date that it meets first: in a process of its own, it is met there."""
    ended = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == ""
    assert ended.stdout.startswith("<class 'datetime.datetime'>")


def test_certificates_are_made_once():
    """For all handles of the process: each run of a search has a proxy of its own."""
    with ClaudeTokens() as one, ClaudeTokens() as two:
        assert one.proxy_url != two.proxy_url
        with open(one.ca_file, encoding="ascii") as first, open(two.ca_file, encoding="ascii") as second:
            assert first.read() == second.read()
