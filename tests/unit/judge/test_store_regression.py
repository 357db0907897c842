"""Stores that go back from a refresh token that the service accepts to one that it doesn't, or to none."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import REFRESHED, STORED, history, noted, store, told


def regression(after: str, before: str = "", **header) -> list[str]:
    return told(judge(history(REFRESHED + before + after, **header)))


def test_a_store_that_goes_back_to_a_spent_token_regresses():
    """A stale writer clobbers a newer one."""
    (violation,) = judge(history(STORED + store("rt#1", previous="rt#2", previous_accepted=True))).violations

    assert str(violation) == "rt#2 -> rt#1 in s"
    assert (violation.seq, violation.labels, violation.at_end) == (6, ("rt#2", "rt#1"), False)
    assert violation.cause == "s had rt#2, which the service accepts, and now has rt#1, which it doesn't"


def test_a_store_that_is_blanked_regresses():
    """A loser wipes the winner's token."""
    (violation,) = judge(history(STORED + store(previous="rt#2", previous_accepted=True, final=True))).violations

    assert (str(violation), violation.labels, violation.at_end) == ("rt#2 -> blank in s", ("rt#2",), True)


@pytest.mark.parametrize(
    "look",
    [
        store("rt#3", accepted=True, previous="rt#2", previous_accepted=True),
        store("rt#1", previous="rt#2", previous_accepted=False),
        store(previous="rt#2", previous_accepted=False),
        store(state="absent", previous="rt#2", previous_accepted=True),
        store(state="unreadable", previous="rt#2", previous_accepted=True),
        store("rt#1"),
        store(),
    ],
    ids=[
        "forwards",
        "from a dead one",
        "a dead one blanked",
        "absent",
        "unreadable",
        "the first look",
        "blank at first",
    ],
)
def test_a_store_that_loses_nothing_does_not_regress(look):
    """From a dead token anything goes; absent and unreadable are not judged on the way."""
    assert regression(look) == []


def test_each_store_is_told_once():
    """A store that flips to and fro is one mistake; two stores are two."""
    looks = [store(previous="rt#2", previous_accepted=True, name=name) for name in ("s", "t", "s")]
    found = judge(history(REFRESHED + "\n".join(looks))).violations

    assert [(str(violation), violation.more) for violation in found] == [
        ("rt#2 -> blank in s", 1),
        ("rt#2 -> blank in t", 0),
    ]


@pytest.mark.parametrize("f", ["kill", "cancel"])
def test_a_store_that_a_worker_spoilt_when_we_ended_it_is_a_note(f):
    """Killed in the middle of a write."""
    look = store(previous="rt#2", previous_accepted=True)
    verdict = judge(history(STORED + f"note {f} actor=w0\n" + look))

    assert (told(verdict), noted(verdict)) == ([], ["excused store-regression"])
    assert str(verdict.notes[0]) == f"store-regression: rt#2 -> blank in s: we did that: {f} w0 (#6)"


KILL = "note kill actor=w0\n"


BLANKED = store(previous="rt#2", previous_accepted=True)


@pytest.mark.parametrize(
    ("between", "found"),
    [
        ("x: w1 call at#2\nx ok\n", []),
        ("x: w1 call at#2\ny: w0 call at#2\ny info\nx ok\n", []),
        ("x: w1 call at#2\nx ok\nz: w1 call at#2\nz ok\n", ["rt#2 -> blank in s"]),
    ],
    ids=["the next reply", "its own end before it", "a later reply"],
)
def test_only_the_first_look_after_a_kill_is_excused_by_it(between, found):
    """Stores are looked at after each reply: what happens later the dead did not do."""
    verdict = judge(history(STORED + KILL + between + BLANKED))

    assert [str(it) for it in verdict.violations if it.invariant == "store-regression"] == found


def test_a_kill_after_the_regression_excuses_nothing():
    """It was spoilt by then."""
    assert regression(BLANKED + "\n" + KILL) == ["store-regression: rt#2 -> blank in s"]


def test_a_token_of_another_grant_that_is_clobbered_goes_by_its_own_name():
    """The store had the newer login's token."""
    look = store("rt#1", previous="rt#1", previous_accepted=True, previous_grant="g#2")

    assert regression("login g#2\n" + look) == ["store-regression: home:rt#1 -> work:rt#1 in s"]


def test_a_regression_of_its_own_counts_beside_one_of_ours():
    """The one that nobody forced is told."""
    calls = "x: w1 call at#2\nx ok\ny: w1 call at#2\ny ok\n"
    verdict = judge(history(STORED + KILL + BLANKED + "\n" + calls + BLANKED))

    assert [(violation.seq, violation.more) for violation in verdict.violations] == [(12, 1)]


@pytest.mark.parametrize("logins", ["login setup_token=true\nlogin g#3", "login g#3\nlogin setup_token=true"])
def test_the_store_of_an_account_that_has_a_refresh_token_beside_its_setup_token_is_judged(logins):
    """In whatever order they came: there is a refresh token to lose."""
    text = f"{logins}\n" + store(previous="rt#1", previous_grant="g#3", previous_accepted=True)

    assert told(judge(history(text))) == ["store-regression: work:rt#1 -> blank in s"]


def test_what_we_did_first_is_what_is_looked_at_first():
    """The kill comes before the look, in whatever order they are noted by kind."""
    verdict = judge(history(STORED + "note cancel actor=w0\n" + KILL + BLANKED))

    assert str(verdict.notes[0]).endswith("we did that: cancel w0 (#6)")


def test_the_store_of_a_setup_token_is_exempt():
    """It has no refresh token of its own."""
    text = "login setup_token=true\n" + store(previous="rt#1", previous_accepted=True)

    assert told(judge(history(text))) == []
    assert told(judge(history(text + "\nlogin g#3"))) != []
