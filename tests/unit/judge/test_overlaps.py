"""What an overlap on a bearer is, where the account decides and may be unknown."""

from __future__ import annotations

import pytest

from fake_server.events import Event
from pytest_claude_tokens.judge import History
from pytest_claude_tokens.judge.check_calls import check_co_schedule
from pytest_claude_tokens.judge.overlaps import overlaps
from pytest_claude_tokens.report.contention import contention

HEADER = Event(
    seq=0, t=0.0, actor="service", type="header", f="header", data={"policy": {"name": "x", "key": "account"}}
)


def call(seq, actor, bearer, *, grant=None, account=None):
    """A call that never ends."""
    return Event(
        seq=seq, t=0.0, actor=actor, op=seq, type="invoke", f="call", grant=grant, account=account, bearer=bearer
    )


ONE, OTHER = "at#1", "at#2"


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [
        ({"account": "a", "grant": "g#1"}, {"account": "a", "grant": "g#2"}, True),
        ({"account": "a", "grant": "g#1"}, {"account": "b", "grant": "g#2"}, False),
        # A file by another hand may leave the account out. Two that are unknown are not the same one ...
        ({"grant": "g#1"}, {"grant": "g#2"}, False),
        ({}, {}, False),
        # ... but all bearers of a grant belong to one account, whichever that is, named once or never.
        ({"grant": "g#1"}, {"grant": "g#1"}, True),
        ({"account": "a", "grant": "g#1"}, {"grant": "g#1"}, True),
        ({"grant": "g#1"}, {"account": "a", "grant": "g#1"}, True),
    ],
)
def test_an_account_that_is_not_told(first, second, meet):
    """The checker and the list agree on who met whom."""
    history = History(HEADER, [call(1, "w0", ONE, **first), call(2, "w1", OTHER, **second)])

    assert len(list(overlaps(history))) == meet
    assert len(list(check_co_schedule(history))) == meet
    assert bool(contention(history)) is meet


def test_calls_of_one_worker_are_no_overlap():
    """It may have as many open as it likes; a lone call of another is none either, once those have ended."""
    alone = [call(1, "w0", ONE), call(2, "w0", ONE)]
    assert list(overlaps(History(HEADER, alone))) == []
    assert not contention(History(HEADER, alone))
    assert list(overlaps(History(HEADER, [call(1, "w0", ONE)]))) == []


def test_one_bearer_of_an_unknown_grant():
    """It is one bearer, whatever its account is."""
    history = History(HEADER, [call(1, "w0", ONE), call(2, "w1", ONE)])

    assert [[op.actor for op in calls] for calls in overlaps(history)] == [["w0", "w1"]]
