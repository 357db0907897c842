from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import threading

import httpx
import pytest

from fake_server import Fault, Policy
from fake_server.clock import Clock
from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.violations import DoubleSpend, RefreshStorm, Unknown
from tests.unit.handle.requests_of import call, refresh


def double_spend(tokens, times=2):
    account = tokens.account(expired=True)
    for _ in range(times):
        refresh(account.refresh_token)


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
    with ClaudeTokens() as outer, ClaudeTokens(intercept=False):
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
    """Closing is always allowed."""
    ClaudeTokens().close()


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
    with ClaudeTokens(sink=sink) as tokens:
        tokens.account()
        assert [json.loads(line)["f"] for line in sink.getvalue().splitlines()] == ["header", "login"]


def test_two_handles_have_different_tokens_and_a_namespace_the_same():
    """A token of another test is unknown; a search that runs again has the same ones."""
    first, second = ClaudeTokens().account(), ClaudeTokens().account()
    again = [ClaudeTokens(namespace="n").account().refresh_token for _ in range(2)]

    assert first.refresh_token != second.refresh_token
    assert again[0] == again[1]


def test_a_simulated_clock_is_used():
    """The search brings a clock and a stopwatch of its own."""
    tokens = ClaudeTokens(clock=Clock(lambda: 5.0, kind="virtual"), stopwatch=lambda: 7.0)

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


# The verdict.


def test_the_end_raises_the_first_violation():
    """The planted bug: one refresh token, spent twice. What else was broken is listed under it."""
    with pytest.raises(DoubleSpend) as raised, ClaudeTokens() as tokens:
        double_spend(tokens)

    assert type(raised.value).__module__ == "claude_tokens"
    assert raised.value.__cause__ is None
    assert set(raised.value.others) == set(tokens.violations()[1:])


def test_a_sound_client_is_spared():
    """The clean twin: refresh once, call with what came."""
    with ClaudeTokens() as tokens:
        account = tokens.account(expired=True)
        call(refresh(account.refresh_token).json()["access_token"])
        assert tokens.violations() == []
        tokens.check()

    assert tokens.finish().state == "VALID"


def test_what_is_allowed_is_a_note():
    """`allow=` turns a violation into a note of the verdict."""
    with ClaudeTokens(allow=["double-spend", "refresh-storm"]) as tokens:
        double_spend(tokens)

    assert [note.why for note in tokens.finish().notes if "double-spend" in note.text] == ["allowed"]


def test_a_violation_outranks_the_error_of_the_body():
    """The user reads DoubleSpend; the loser's HTTP 400 is attached."""
    with pytest.raises(DoubleSpend) as raised, ClaudeTokens() as tokens:
        double_spend(tokens)
        raise httpx.HTTPError("400")

    assert isinstance(raised.value.__cause__, httpx.HTTPError)


def test_an_interruption_is_never_replaced():
    """Ctrl-C, a skip, and all other BaseExceptions stand."""
    for error in (KeyboardInterrupt, pytest.skip.Exception):
        with pytest.raises(error), ClaudeTokens() as tokens:
            double_spend(tokens)
            raise error


def test_the_bodys_error_stands_under_a_valid_verdict():
    """Without a violation nothing is replaced."""
    with pytest.raises(KeyError), ClaudeTokens():
        raise KeyError


def test_check_raises_each_violation_once():
    """First the first, then the next; what was raised is still told, and not raised at the end."""
    with ClaudeTokens() as tokens:
        double_spend(tokens, 3)
        broken = tokens.violations()
        for violation in broken:
            with pytest.raises(type(violation)) as raised:
                tokens.check()
            assert str(raised.value) == str(violation)
        tokens.check()
        assert [str(violation) for violation in tokens.violations()] == [str(violation) for violation in broken]
        assert [type(violation) for violation in broken] == [DoubleSpend, RefreshStorm]


def test_a_violation_that_check_raised_is_not_replaced_by_another():
    """The body ends with the first violation; those of the end come after it and are not raised over it."""
    with pytest.raises(DoubleSpend) as raised, ClaudeTokens() as tokens:
        account = tokens.account()
        (tokens.tmp_path / "copy").write_text(account.access_token)
        double_spend(tokens)
        tokens.check()

    assert raised.value.__cause__ is None


def test_an_unknown_verdict_is_raised_where_the_body_passed():
    """Nobody can say VALID of a run in which a worker got stuck; an error of the body says more."""
    with pytest.raises(Unknown, match="w0 is stuck: in a lock"), ClaudeTokens() as tokens:
        tokens.server.journal.note("stuck", actor="w0", why="in a lock")
    with pytest.raises(KeyError), ClaudeTokens() as tokens:
        tokens.server.journal.note("stuck", actor="w0", why="in a lock")
        raise KeyError


def test_finishing_twice_gives_one_verdict(tokens):
    """The plugin finishes in the call phase; the exit must not write a second end."""
    assert tokens.finish() is tokens.finish()
    tokens.check()
    assert tokens.violations() == []
    assert len(tokens.history.noted("end")) == 1
    assert tokens.to_raise() is None


def test_what_comes_after_the_end_is_no_matter_of_the_stores(tokens):
    """A thread that is left behind still gets answers; the end was written once."""
    account = tokens.account()
    held = [account.refresh_token]
    tokens.watch_store(lambda: held[0], account)
    tokens.finish()
    held.clear()
    call(account.access_token)

    assert len(tokens.history.noted("store")) == 2


def test_a_listener_hears_nothing_of_the_handles_own_files(tokens):
    """What the handle does under its locks is no place to switch threads."""
    heard = []
    events = ("open", "os.mkdir", "os.chmod")
    listener = lambda event, args: heard.append(args[0])  # noqa: E731 - one object, to be taken back
    audit.subscribe(events, listener)
    try:
        account = tokens.account()
        folder = tokens.config_dir(account)
        tokens.env(account, worker="w0")
        call(account.access_token)
        assert not [path for path in heard if "claude-tokens" in str(path)]
        (folder / "own").mkdir()
        assert heard[-1] == str(folder / "own")
    finally:
        audit.unsubscribe(events, listener)


def test_what_was_closed_before_its_end_is_judged_as_it_is():
    """The folders are gone: what was in them can't be said any more, and nothing is made up."""
    tokens = ClaudeTokens().open()
    tokens.config_dir(tokens.account())
    tokens.close()

    assert tokens.finish().state == "VALID"
    assert not tokens.history.noted("end")


def test_everything_is_closed_when_the_end_fails(monkeypatch):
    """Whatever happens in the judge, patches are undone."""
    monkeypatch.setattr("pytest_claude_tokens.handle.judgement.judge", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError), ClaudeTokens() as tokens:
        folder = tokens.tmp_path

    assert not folder.exists()


# The end.


def test_the_end_waits_for_open_operations():
    """A request of a thread that goes on after the body is still seen to its end."""
    with ClaudeTokens(latency=0.1) as tokens:
        account = tokens.account()
        thread = threading.Thread(target=call, args=(account.access_token,))
        thread.start()
        while not tokens.server.open:
            threading.Event().wait(0.001)
    thread.join()

    assert [operation.outcome for operation in tokens.history.operations] == ["ok"]


def test_an_operation_that_takes_longer_is_given_up(monkeypatch):
    """Its outcome is unknown; its client is told at once."""
    from pytest_claude_tokens.handle import finish

    monkeypatch.setattr(finish.wait_for_open, "__defaults__", (0.05,))
    with ClaudeTokens() as tokens:
        with tokens.hold("call", count=2):
            account = tokens.account()
            errors = []

            def work():
                try:
                    call(account.access_token)
                except Exception as error:
                    errors.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            while not tokens.server.open:
                threading.Event().wait(0.001)
            tokens.finish()
        thread.join()

    (operation,) = tokens.history.operations
    assert (operation.outcome, operation.end.error) == ("info", "still open at the end")
    assert [type(error) for error in errors] == [httpx.ReadError]


def test_the_end_does_not_wait_for_tasks_of_its_own_loop(monkeypatch):
    """In a loop without other threads nothing could end while we wait."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)

    async def main():
        with ClaudeTokens(latency=5) as tokens:
            account = tokens.account()
            async with httpx.AsyncClient() as client:
                headers = {"authorization": f"Bearer {account.access_token}"}
                task = asyncio.create_task(
                    client.post("https://api.anthropic.com/v1/messages", headers=headers, json={})
                )
                while not tokens.server.open:
                    await asyncio.sleep(0)
                tokens.finish()
                task.cancel()
        return tokens

    tokens = asyncio.run(main())

    assert tokens.history.operations[0].end.error == "still open at the end"


def test_a_client_that_stores_last_has_lost_nothing(monkeypatch):
    """A thread that is between its reply and its store when the body ends gets the time for it."""
    with ClaudeTokens(latency={"token": 0.05}) as tokens:
        account = tokens.account(expired=True)
        file = tokens.config_dir(account) / ".credentials.json"

        def work():
            reply = refresh(account.refresh_token)
            threading.Event().wait(0.05)
            new = file.with_suffix(".new")
            new.touch(0o600)
            new.write_text(json.dumps({"claudeAiOauth": {"refreshToken": reply.json()["refresh_token"]}}))
            new.replace(file)

        thread = threading.Thread(target=work)
        thread.start()
        while not tokens.server.open:
            threading.Event().wait(0.001)
    thread.join()

    assert tokens.history.noted("store")[-1].refresh == "rt#2"


def test_the_end_says_what_each_grant_has(tokens):
    """Accepted tokens, what it died of, its stores."""
    one, two, three = tokens.account("one"), tokens.account("two"), tokens.account("three", setup_token=True)
    tokens.config_dir(one)
    refresh(one.refresh_token)
    tokens.revoke(two)
    tokens.finish()

    (end,) = tokens.history.noted("end")
    assert end.get("grants") == {
        "g#1": {"account": "one", "setup_token": False, "accepts": ["rt#2"], "death": None, "stores": ["shared"]},
        "g#2": {"account": "two", "setup_token": False, "accepts": [], "death": "revoke", "stores": []},
        "g#3": {"account": three.name, "setup_token": True, "accepts": [], "death": None, "stores": []},
    }


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
