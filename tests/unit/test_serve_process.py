"""``serve`` as a process, judged by the plugin: what a program in any language meets."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from pytest_claude_tokens.cli.serve import ServiceJudge
from tests.unit.transports.raw import PATIENCE, a_server, call, raw, token_body


@contextmanager
def a_service(*arguments):
    """A running service and its first line."""
    command = [sys.executable, "-m", "fake_server", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def ended(process, number=signal.SIGTERM):
    """Its exit status and what it said at the end."""
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert out == ""
    return process.returncode, err


def refresh(url, secret):
    with httpx.Client(base_url=url) as client:
        return client.post("/v1/oauth/token", content=token_body(secret)).status_code


def test_a_sound_client_is_valid(tmp_path):
    """Exit status 0, a verdict, and a history that ends."""
    history = tmp_path / "history.jsonl"
    with a_service("--history", str(history), "--account", "alice", "--expired") as (process, facts):
        alice = facts["accounts"][0]
        login = alice["credentials"]["claudeAiOauth"]
        assert refresh(alice["env"]["ANTHROPIC_BASE_URL"], login["refreshToken"]) == 200
        assert alice["env"]["CLAUDE_CODE_OAUTH_TOKEN"] == login["accessToken"]
        assert login["expiresAt"] > 1e12
        status, err = ended(process, signal.SIGINT)
    assert (status, err) == (0, "claude-tokens: VALID, 1 request\n")
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    assert lines[-1]["f"] == "end"
    assert "sk-ant" not in history.read_text()


def test_a_double_spend_is_found():
    """Exit status 1, the name of the violation, and its story; the same is known before the end."""
    with a_service() as (process, facts):
        secret = facts["accounts"][0]["credentials"]["claudeAiOauth"]["refreshToken"]
        assert [refresh(f"{facts['url']}/w/{worker}", secret) for worker in ("w0", "w1")] == [200, 400]
        with httpx.Client(base_url=facts["url"]) as client:
            so_far = client.get("/_claude_tokens/verdict").json()
        status, err = ended(process)
    assert status == 1
    assert err.startswith("claude-tokens: INVALID, 2 requests: claude_tokens.DoubleSpend: rt#1 by w0")
    assert "rt#1 spent; at#2 rt#2" in err
    assert "sk-ant" not in err
    assert (so_far["verdict"], so_far["violations"][0]["invariant"]) == ("INVALID", "double-spend")


def test_a_worker_is_known_by_its_proxy_user():
    """A client that only knows the real hosts: named by the user of its proxy, and found out all the same."""
    with a_service() as (process, facts):
        secret = facts["accounts"][0]["credentials"]["claudeAiOauth"]["refreshToken"]
        env = facts["accounts"][0]["env"]
        assert env["HTTPS_PROXY"] == facts["proxy"]
        context = ssl.create_default_context(cafile=env["SSL_CERT_FILE"])
        for worker in ("w0", "w1"):
            proxy = facts["proxy"].replace("//", f"//{worker}:x@")
            with httpx.Client(proxy=proxy, verify=context, trust_env=False) as client:
                client.post("https://platform.claude.com/v1/oauth/token", content=token_body(secret))
        assert ended(process)[1].startswith(
            "claude-tokens: INVALID, 2 requests: claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#5)"
        )


def test_calls_on_one_bearer_at_once_are_found():
    """Two workers with one token: the second one waits, and both are told of."""
    with a_service() as (process, facts):
        token = facts["accounts"][0]["credentials"]["claudeAiOauth"]["accessToken"]
        port = int(facts["url"].rpartition(":")[2])
        with httpx.Client(base_url=facts["url"]) as client:
            client.post("/_claude_tokens/faults", json={"target": "call", "fault": "delay", "seconds": 0.2})
        with raw(port) as one, raw(port) as two:
            one.send(call(token))
            two.send(call(token))
            assert (one.reply().status, two.reply().status) == (200, 200)
        assert ended(process)[0] == 1


def test_a_read_only_folder_is_told(tmp_path):
    """One sentence and exit status 2, as for every mistake in the command line."""
    command = [sys.executable, "-m", "fake_server", "--history", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"python -m fake_server: the history can't be written to {tmp_path}: Is a directory\n"


@pytest.mark.parametrize(("output", "why"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")])
def test_an_output_that_cannot_be_written_is_told(output, why):
    """In one sentence, and no other comes from the interpreter's end; its own buffer is on, as it is for users."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = ["sh", "-c", f'exec "$0" -m fake_server {output}', sys.executable]
    done = subprocess.run(command, env=env, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    assert done.stderr == f"python -m fake_server: standard output can't be written: {why}\n"
    assert done.returncode == 2


def test_it_needs_nobody_s_home(tmp_path):
    """It starts without HOME, from anywhere."""
    env = {name: value for name, value in os.environ.items() if name != "HOME"}
    command = [sys.executable, "-m", "fake_server", "--host", "example.com"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, "loopback" in done.stderr) == (2, True)


def test_an_unknown_verdict_says_what_is_missing():
    """Exit status 3, and why nobody can tell."""
    server = a_server()
    server.journal.note("stuck", actor="w0", why="in a system call")
    judged = ServiceJudge().look(server)
    assert judged.exit_status == 3
    assert judged.text.startswith("claude-tokens: UNKNOWN, 0 requests\n\nverdict")
    assert "in a system call" in judged.text
    assert judged.data["notes"] == [{"why": "stuck", "invariant": None, "text": judged.data["notes"][0]["text"]}]


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:2"])
def test_a_fake_claude_reaches_the_token_endpoint(proxy):
    """By its real name through the proxy; without one, by an address of its own."""
    server = a_server()
    grant = server.login("a1")
    made = ServiceJudge().environment(grant, home="/nowhere", url="http://127.0.0.1:1", proxy=proxy, ca_file=None)
    assert made.get("CLAUDE_TOKENS_TOKEN_URL") == (None if proxy else "http://127.0.0.1:1/v1/oauth/token")


@pytest.mark.parametrize("policy", ["no-rotation"])
def test_what_the_policy_makes_harmless_is_noted(policy):
    """A replay that the service tolerates is told, and is valid."""
    with a_service("--policy", policy, "--expired") as (process, facts):
        secret = facts["accounts"][0]["credentials"]["claudeAiOauth"]["refreshToken"]
        assert [refresh(f"{facts['url']}/w/{worker}", secret) for worker in ("w0", "w1")] == [200, 200]
        status, err = ended(process)
    assert status == 0
    assert "\nnote: double-spend: " in err
