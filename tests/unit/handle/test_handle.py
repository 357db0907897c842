"""The handle: what it opens, serves and closes again."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import httpx
import pytest

from fake_server import Fault, Policy
from fake_server.clock import Clock
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.handle.runtime import Runtime
from tests.unit.handle.requests_of import call, refresh

# Its life.


def test_importing_the_package_imports_only_what_it_says():
    """The names are there at once, and what they need is loaded when they are used."""
    code = (
        "import sys; before = set(sys.modules); import pytest_claude_tokens as p; "
        "print([m for m in ('asyncio', 'ssl', 'httpx', 'fake_server') if m in set(sys.modules) - before]); "
        "from pytest_claude_tokens import ClaudeTokens; print(ClaudeTokens.__module__, p.ClaudeTokens is ClaudeTokens)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split("\n")[:2] == ["[]", "pytest_claude_tokens.handle.claude_tokens True"]


def test_the_package_says_what_it_does_not_have():
    """A typing error in an import is an ordinary AttributeError."""
    import pytest_claude_tokens

    with pytest.raises(AttributeError, match="no attribute 'ClaudeToken'"):
        pytest_claude_tokens.ClaudeToken  # noqa: B018 - the look-up is the test


def test_it_answers_in_process_while_it_is_open():
    """Inside the block the hosts of the service are answered; the innermost handle answers."""
    with ClaudeTokens() as outer:
        with ClaudeTokens() as inner:
            assert httpx.get("https://api.anthropic.com/api/hello").status_code == 200
        httpx.get("https://claude.ai/api/hello")

        assert [len(tokens.history.operations) for tokens in (outer, inner)] == [1, 1]


def test_it_answers_for_further_hosts():
    """`hosts=` names a gateway of the user's; one name may be given as a text."""
    with ClaudeTokens(hosts="gateway.example") as tokens:
        assert httpx.get("https://gateway.example/api/hello").status_code == 200
        reply = httpx.get(tokens.url + "/api/hello", headers={"host": "gateway.example"})
        assert reply.status_code == 200


def test_it_can_leave_in_process_traffic_to_others():
    """The search has an interceptor of its own around all runs."""
    with ClaudeTokens() as outer, ClaudeTokens(runtime=Runtime(intercept=False)):
        httpx.get("https://api.anthropic.com/api/hello")

        assert len(outer.history.operations) == 1


def test_it_is_opened_once():
    """A history has one beginning."""
    with ClaudeTokens() as tokens:
        with pytest.raises(RuntimeError, match="opened before"):
            tokens.open()
    with pytest.raises(RuntimeError, match="opened before"):
        tokens.open()


def test_what_an_opening_that_fails_had_begun_is_undone():
    """An account that can't be is found after the patches are in place."""
    with pytest.raises(ValueError, match="an account's name"):
        ClaudeTokens(accounts=["a b"]).open()
    with ClaudeTokens() as outer:
        with pytest.raises(ValueError, match="an account's name"):
            ClaudeTokens(accounts=["a b"]).open()
        httpx.get("https://api.anthropic.com/api/hello")
        assert len(outer.history.operations) == 1


def test_the_server_and_the_folder_end_with_it():
    """Nothing is left on the disk or on a port; asking again is an error."""
    with ClaudeTokens() as tokens:
        url, folder = tokens.url, tokens.tmp_path
        assert tokens.url == url
        assert tokens.tmp_path == folder
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (tokens.proxy_url is None) == (tokens.ca_file is None)
    tokens.close()

    assert not folder.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    for name in ("url", "tmp_path"):
        with pytest.raises(RuntimeError, match="not open"):
            getattr(tokens, name)
    with pytest.raises(RuntimeError, match="not open"):
        ClaudeTokens().url  # noqa: B018 - asking is the test


def test_it_needs_no_opening_to_be_closed():
    """Closing is always allowed, and its history is judged as it is: empty."""
    tokens = ClaudeTokens()
    tokens.close()
    tokens.close()

    assert tokens.finish().violations == ()
    assert list(tokens.history) == []


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"policy": "anthropc"}, "choose one of anthropic"),
        ({"allow": ["double_spend"]}, "no invariant is named 'double_spend'; they are double-spend"),
        ({"limit": 0}, "at least 1"),
        ({"limit": True}, "a number of workers"),
        ({"latency": {"tokn": 1}}, "it knows token, call and other"),
    ],
)
def test_bad_settings_are_refused_at_once(asked, error):
    """A typing error is found where it was made."""
    with pytest.raises(ValueError, match=error):
        ClaudeTokens(**asked)


def test_settings_are_in_the_header():
    """Whoever judges the file later judges by the same rules."""
    tokens = ClaudeTokens("gateway", allow="token-leak", limit=3, latency=0.5)
    header = tokens.history.header

    assert tokens.policy == Policy.preset("gateway").but(latency=0.5)
    assert header.get("policy") == {"name": "gateway", "dialect": "gateway", "latency": 0.5}
    assert (header.get("limit"), header.get("allow")) == (3, ["token-leak"])
    assert "double-spend" in header.get("default")
    assert "lost-rotation" not in header.get("default")
    assert ClaudeTokens(Policy(name="mine")).policy.name == "mine"


def test_a_file_gets_each_event_at_once():
    """`sink`: a process that is killed leaves what it has seen so far."""
    sink = io.StringIO()
    with ClaudeTokens(runtime=Runtime(sink=sink)) as tokens:
        tokens.account()
        assert [json.loads(line)["f"] for line in sink.getvalue().splitlines()] == ["header", "login"]


def test_two_handles_have_different_tokens_and_a_namespace_the_same():
    """A token of another test is unknown; a search that runs again has the same ones."""
    first, second = ClaudeTokens().account(), ClaudeTokens().account()
    again = [ClaudeTokens(runtime=Runtime(namespace="n")).account().refresh_token for _ in range(2)]

    assert first.refresh_token != second.refresh_token
    assert again[0] == again[1]


def test_a_simulated_clock_is_used():
    """The search brings a clock and a stopwatch of its own."""
    tokens = ClaudeTokens(runtime=Runtime(clock=Clock(lambda: 5.0, kind="virtual"), stopwatch=lambda: 7.0))

    assert (tokens.clock.now(), tokens.server.stopwatch()) == (5.0, 7.0)


# Workers and faults.


def test_requests_in_a_workers_context_are_its(tokens):
    """In a thread of its own too, where the context was entered there."""
    with tokens.worker("w0"):
        httpx.get("https://api.anthropic.com/api/hello")
    httpx.get("https://api.anthropic.com/api/hello")

    assert [operation.actor for operation in tokens.history.operations] == ["w0", "MainThread"]
    with pytest.raises(ValueError, match="a worker has a name"), tokens.worker(""):
        raise AssertionError("never here")


def test_a_fault_strikes_the_account_it_is_meant_for(tokens):
    """`account=` by value or by name; others are spared."""
    one, two = tokens.account(), tokens.account()
    tokens.fail_next("call", Fault.status(503), account=two)
    tokens.fail_next("call", Fault.status(529), count=2, account="a2")

    assert [call(account.access_token).status_code for account in (one, two, two, one, two, two)] == [
        200,
        503,
        529,
        200,
        529,
        200,
    ]


def test_a_fault_strikes_the_worker_it_is_meant_for(tokens):
    """By the name in `worker()`; a secret in its place is refused."""
    account = tokens.account()
    tokens.fail_next("call", Fault.status(503), worker="w1")
    statuses = []
    for name in ("w0", "w1", "w1"):
        with tokens.worker(name):
            statuses.append(call(account.access_token).status_code)

    assert statuses == [200, 503, 200]
    with pytest.raises(ValueError, match="an access token of"):
        tokens.fail_next("call", Fault.RESET, worker=account.access_token)


def test_a_fault_for_all_strikes_the_next(tokens):
    """Without an account the next request meets it, whosever it is."""
    account = tokens.account()
    tokens.fail_next("token", Fault.LOST_REPLY)

    with pytest.raises(httpx.RemoteProtocolError):
        refresh(account.refresh_token)


def test_a_fault_that_is_none_is_refused(tokens):
    """A number, a name, and a fault that was not made are common mistakes."""
    for fault in (503, "reset", Fault.status):
        with pytest.raises(TypeError, match="the fault is a value"):
            tokens.fail_next("token", fault)
    with pytest.raises(ValueError, match="no account is named"):
        tokens.fail_next("token", Fault.RESET, account="a9")


# The history.


def test_the_history_is_as_of_now(tokens):
    """One object, asked again later, knows what has happened since."""
    history = tokens.history
    assert (len(history), list(history), history.operations, history.events) == (0, [], [], ())
    account = tokens.account()
    call(account.access_token)

    assert [event.seq for event in history] == [1, 2, 3]
    assert [event.type for event in history.events] == ["note", "invoke", "ok"]
    assert [operation.bearer for operation in history.operations] == ["at#1"]
    assert history.header.type == "header"
    assert repr(history) == "<History 3 events, 1 operations>"
    assert history.taken() is history.taken()
