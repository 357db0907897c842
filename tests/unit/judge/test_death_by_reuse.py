"""Grants that reuse detection has ended: whose doing it was that somebody has to log in again."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import end, history, invariants, noted, store, told

REUSED = """
    login
    a: w0 token rt#1
    b: w1 token rt#1
    a commit rotated at#2 rt#2
    b commit reused revoked=["rt#2","at#1","at#2"]
    {a}
    b fail 400
"""


def test_a_death_by_reuse_forces_a_login():
    """Both workers have a part in it."""
    text = REUSED.format(a="a ok at#2 rt#2") + end(accepts=(), death="reuse", stores=())
    spend, login = judge(history(text)).violations

    assert spend.invariant == "double-spend"
    assert str(login) == "g#1: revoked, rt#1 was reused by w1 (#3)"
    assert (login.labels, login.actors, login.at_end) == (("rt#1", "rt#2"), ("w0", "w1"), True)
    assert login.cause == (
        "a person has to log in again: reuse detection revoked the grant when rt#1 came again by w1 (#3)"
    )


def test_a_reply_that_we_lose_after_the_reuse_excuses_nothing():
    """The grant was dead by then."""
    text = REUSED.format(a="a info fault=lost-reply") + end(accepts=(), death="reuse", stores=())

    assert invariants(text) == ["double-spend", "forced-login"]


LOOK = store("rt#2", accepted=True)


BLIND = """
    login
    a: w0 token rt#1
    a commit rotated at#2 rt#2
    {a}
    b: w1 token rt#1
    b commit reused revoked=["rt#2","at#1"]
    b fail 400
"""


@pytest.mark.parametrize(
    ("lost", "found", "notes"),
    [
        ("a info fault=lost-reply", ["blind-replay"], ["excused forced-login"]),
        ("note kill actor=w0\na info", ["blind-replay"], ["excused forced-login"]),
        ("a info error=gone", ["blind-replay", "forced-login"], []),
        ("a ok at#2 rt#2", ["double-spend", "forced-login"], []),
        ("a ok at#2 rt#2\nnote kill actor=w0", ["double-spend"], ["excused forced-login"]),
        (
            f"a ok at#2 rt#2\n{LOOK}\nnote kill actor=w0",
            ["double-spend", "forced-login"],
            [],
        ),
        ("a ok at#2 rt#2\nc: w0 token rt#2\nc fail 503\nnote kill actor=w0", ["double-spend", "forced-login"], []),
    ],
)
def test_a_reuse_takes_nothing_where_we_had_lost_the_newest_token_before(lost, found, notes):
    """After a reply that we lost nobody could go on anyway; the replay itself stays a mistake."""
    later = LOOK.replace("true", "false") + "\n" if LOOK in lost else ""
    verdict = judge(history(BLIND.format(a=lost) + later + end(accepts=(), death="reuse", stores=())))

    assert [violation.invariant for violation in verdict.violations] == found
    assert noted(verdict) == notes


def test_a_death_by_reuse_may_be_told_by_the_end_alone():
    """A file by another hand."""
    (violation,) = judge(history("login\n" + end(accepts=(), death="reuse", stores=()))).violations

    assert str(violation) == "g#1: revoked by reuse detection"


def test_a_reuse_whose_request_is_not_told():
    """The commit alone says which token came again."""
    text = "login\nnote commit grant=g#1 refresh=rt#1 outcome=reused\n" + end(accepts=(), death="reuse", stores=())

    assert told(judge(history(text))) == ["forced-login: g#1: revoked, rt#1 was reused"]
