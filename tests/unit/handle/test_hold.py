from __future__ import annotations

import threading

import pytest

from tests.unit.handle.requests_of import call, refresh


def in_threads(tokens, *jobs):
    """Run each job as a worker of its own; a function that joins them."""

    def run(name, job):
        with tokens.worker(name):
            job()

    threads = [threading.Thread(target=run, args=(f"w{n}", job)) for n, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    return lambda: [thread.join() for thread in threads]


def open_operations(tokens, count):
    """Wait until so many requests have arrived."""
    for _ in range(2000):
        if len(tokens.server.open) >= count:
            return
        threading.Event().wait(0.005)
    raise AssertionError("they never came")


def test_requests_wait_for_one_another(tokens):
    """Two token requests are held until both are there, and then overlap."""
    account = tokens.account()
    with tokens.hold("token"):
        in_threads(tokens, *[lambda: refresh(account.refresh_token)] * 2)()

    one, two = tokens.history.operations
    assert two.open_at(one.closed) or one.open_at(two.closed)


def test_the_end_of_the_block_lets_them_go(tokens):
    """Fewer than were waited for: no error, and nobody waits for 30 s."""
    account = tokens.account()
    with tokens.hold("call", count=3):
        join = in_threads(tokens, lambda: call(account.access_token))
        open_operations(tokens, 1)
    join()

    assert tokens.history.operations[0].outcome == "ok"
    assert not tokens.server.holds


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr("fake_server.core.hold.HOLD_LIMIT", 0.05)
    monkeypatch.setattr("pytest_claude_tokens.handle.hold.HOLD_LIMIT", 0.05)


def test_a_hold_that_runs_out_says_who_never_came(tokens, short):
    """Those that waited by name, and those that are known of and did not come."""
    account = tokens.account()
    with tokens.worker("w9"):
        call(account.access_token)
    with pytest.raises(TimeoutError, match=r'hold\("token", count=2\) ran out .*: w0 waited; never came: w9$'):
        with tokens.hold("token"):
            in_threads(tokens, lambda: refresh(account.refresh_token))()


def test_a_hold_that_runs_out_counts_those_that_nobody_knows(tokens, short):
    """Nobody else has been seen: a number must do."""
    account = tokens.account()
    with pytest.raises(TimeoutError, match="w0 waited; never came: 2 more"):
        with tokens.hold("token", count=3):
            in_threads(tokens, lambda: refresh(account.refresh_token))()


def test_the_bodys_error_stands_with_the_hold_as_a_note(tokens, short):
    """A hold that ran out may be why the body failed; it must not hide how."""
    account = tokens.account()
    with pytest.raises(KeyError) as raised:
        with tokens.hold("token"):
            in_threads(tokens, lambda: refresh(account.refresh_token))()
            raise KeyError
    assert "w0 waited" in raised.value.__notes__[0]
    with pytest.raises(KeyError) as raised:
        with tokens.hold("token"):
            raise KeyError
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize(("target", "count"), [("other", 2), ("token", 0)])
def test_what_cannot_be_held_is_refused(tokens, target, count):
    """Token requests and calls, one or more."""
    with pytest.raises(ValueError, match="hold"):
        with tokens.hold(target, count):
            raise AssertionError("never here")
