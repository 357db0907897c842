"""``fake_claude``: a ``claude`` of ours first on the path, and its events."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

PATIENCE = 40.0


@pytest.fixture
def before():
    """The environment as it was before the service."""
    return dict(os.environ)


def test_it_is_the_same_service_with_claude_on_the_path(before, fake_claude, claude_tokens, claude_server):
    """And the environment is set for what the test itself starts."""
    assert fake_claude is claude_tokens is claude_server
    found = shutil.which("claude")
    assert os.path.dirname(found) == os.environ["PATH"].split(os.pathsep)[0] == str(fake_claude.install_claude())
    assert os.environ["ANTHROPIC_BASE_URL"] == fake_claude.url
    assert before["HOME"] != os.environ["HOME"]
    assert fake_claude.env(worker="w0")["PATH"].split(os.pathsep)[0] == os.path.dirname(found)


def test_the_environment_is_put_back(pytester):
    """To the letter."""
    pytester.makepyfile(
        """
        import os

        before = dict(os.environ)

        def test_one(fake_claude):
            assert dict(os.environ) != before

        def test_two():
            name = "PYTEST_CURRENT_TEST"
            assert {**os.environ, name: ""} == {**before, name: ""}
        """
    )
    pytester.runpytest("-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function").assert_outcomes(
        passed=2
    )


def test_a_plain_subprocess_meets_the_service(fake_claude, monkeypatch):
    """``claude -p`` as anybody would call it, from a folder with a login."""
    folder = fake_claude.config_dir(fake_claude.account(expired=True))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(folder))
    command = ["claude", "-p", "Reply: A"]
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (0, "A\n"), done.stderr
    assert [op.status for op in fake_claude.history.operations if op.f == "token"] == [200]


def test_workers_leave_their_events(fake_claude):
    """In order, with the worker that wrote them."""
    assert list(fake_claude.telemetry) == []
    folder = fake_claude.config_dir(fake_claude.account(expired=True))
    fake_claude.spawn(["claude", "-p", "Reply: A"], "w4", config_dir=folder).wait(PATIENCE)
    told = fake_claude.telemetry
    assert {record.worker for record in told} == {"w4"}
    assert all(record.event.startswith("tengu_oauth_") for record in told)
    assert [record.seq for record in told] == sorted(record.seq for record in told)
    assert any("refresh" in record.event for record in told)


def test_without_the_proxy_the_token_endpoint_has_another_address(claude_tokens, monkeypatch):
    """With the worker in its path; there is no TLS for the real one."""
    monkeypatch.setattr("fake_server.transports.proxy.available", lambda: False)
    plain, named = claude_tokens.env(), claude_tokens.env(worker="w0")
    assert plain["CLAUDE_TOKENS_TOKEN_URL"] == f"{claude_tokens.url}/v1/oauth/token"
    assert named["CLAUDE_TOKENS_TOKEN_URL"] == f"{claude_tokens.url}/w/w0/v1/oauth/token"
    assert named["CLAUDE_TOKENS_WORKER"] == "w0"
    odd = claude_tokens.env(worker="a b/1")
    assert odd["CLAUDE_TOKENS_TOKEN_URL"] == f"{claude_tokens.url}/w/a%20b%2F1/v1/oauth/token"
    assert odd["CLAUDE_TOKENS_WORKER"] == "a b/1"
