"""One service for a whole session: started when it is needed, judged when the session ends."""

from __future__ import annotations

import importlib
from contextlib import suppress
from types import SimpleNamespace

import pytest

from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.plugin import shared

# Out here, once: an inner run forgets what it imports, and libraries in C don't like to be loaded twice.
for name in ("fake_server.transports.proxy", "fake_server.serve.service", "pytest_claude_tokens.cli.serve", "trustme"):
    with suppress(ImportError):
        importlib.import_module(name)

SPEND = """
import http.client, json, pytest

def spend(server, login):
    secret = login["credentials"]["claudeAiOauth"]["refreshToken"]
    body = {"grant_type": "refresh_token", "refresh_token": secret, "client_id": "c"}
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    connection.request("POST", "/v1/oauth/token", json.dumps(body), {"content-type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status

def test_once(claude_shared_server):
    assert spend(claude_shared_server, claude_shared_server.login("once", expired=True)) == 200
    assert claude_shared_server.verdict()["verdict"] == "VALID"
    with pytest.raises(ValueError, match="an account's name is"):
        claude_shared_server.login("no name")
"""
TWICE = """
def test_twice(claude_shared_server):
    login = claude_shared_server.login("twice", expired=True)
    assert (spend(claude_shared_server, login), spend(claude_shared_server, login)) == (200, 400)
"""
ASKED = "--claude-tokens-shared-server=anthropic"


def test_a_session_that_broke_nothing_passes(pytester):
    """Its verdict stands in the summary, its history and the picture of it in a folder."""
    pytester.makepyfile(test_it=SPEND)
    result = pytester.runpytest(ASKED)

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["=* claude-tokens shared server =*", "claude-tokens: VALID, 1 request", "*/.claude-tokens/shared-server"]
    )
    folder = pytester.path / ".claude-tokens" / "shared-server"
    assert sorted(path.name for path in folder.iterdir()) == ["history.jsonl", "timeline.html"]
    assert not History.load(folder / "history.jsonl").torn


def test_a_violation_of_all_tests_together_fails_the_session(pytester):
    """Though each test passed; `never` draws nothing."""
    pytester.makepyfile(test_it=SPEND + TWICE)
    result = pytester.runpytest(ASKED, "--claude-tokens-html=never")

    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["claude-tokens: INVALID, 3 requests: claude_tokens.DoubleSpend: twice:rt#1 by *"])
    assert not (pytester.path / ".claude-tokens" / "shared-server" / "timeline.html").exists()


def test_a_session_that_never_needs_it_starts_none(pytester):
    """No folder, no word."""
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest(ASKED)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*shared server*")
    assert not (pytester.path / ".claude-tokens").exists()


def test_without_the_option_the_fixture_says_what_to_do(pytester):
    """And a policy that isn't there is refused before anything runs."""
    pytester.makepyfile("def test_it(claude_shared_server): pass")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("the fixture claude_shared_server needs --claude-tokens-shared-server=POLICY *")
    assert pytester.runpytest("--claude-tokens-shared-server=antropic").ret == pytest.ExitCode.USAGE_ERROR


def test_a_history_that_can_not_be_written_is_a_usage_error(pytester):
    """It is the only copy."""
    pytester.makefile("", **{".claude-tokens": "in the way"})
    owner = shared.Owner(pytester.parseconfig(ASKED))
    with pytest.raises(pytest.UsageError, match="--claude-tokens-shared-server: "):
        assert owner.url()
    owner.pytest_unconfigure()


def test_a_worker_is_told_the_address(pytester):
    """By the controller, before it starts."""
    owner = shared.Owner(pytester.parseconfig(ASKED))
    node = SimpleNamespace(workerinput={})
    owner.pytest_configure_node(node)
    manager = SimpleNamespace(getplugin=lambda name: None)
    server = shared.server_of(SimpleNamespace(pluginmanager=manager, workerinput=node.workerinput))
    assert repr(server) == f"<SharedServer {owner.url()}>"
    assert server.login()["name"] == "a1"
    owner.pytest_unconfigure()
