"""Blind replays: each planted bug is caught, its sound twin spared."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.build import GRACE, NO_ROTATION, history, noted, told

LOST = "login\na: w0 token rt#1\na info error=lost-reply fault=lost-reply committed=true\n"


BLIND_REPLAYS = {
    "by the same worker": LOST + "b: w0 token rt#1\nb fail 400",
    "by another worker": LOST + "b: w1 token rt#1\nb fail 400",
    "after a request that was never answered": "login\na: w0 token rt#1\na info fault=timeout\nb: w0 token rt#1",
    "after the client had given up": "login\na: w0 token rt#1\na info error=cancelled\nb: w0 token rt#1",
    "although it turned out well": "login\na: w0 token rt#1\na info fault=reset\nb: w1 token rt#1\nb ok at#2 rt#2",
}


@pytest.mark.parametrize("story", BLIND_REPLAYS.values(), ids=BLIND_REPLAYS)
def test_a_blind_replay_is_found(story):
    """Nobody could know whether the token was spent."""
    assert [violation.invariant for violation in judge(history(story)).violations] == ["blind-replay"]


NO_BLIND_REPLAYS = {
    "another token": LOST + "b: w0 token rt#2\nb fail 400",
    "nothing more": LOST,
    "after a failure that was told": "login\na: w0 token rt#1\na fail 500\nb: w0 token rt#1",
    "a token of which nothing is known": "login\na: w0 token unknown\na info\nb: w0 token unknown",
}


@pytest.mark.parametrize("story", NO_BLIND_REPLAYS.values(), ids=NO_BLIND_REPLAYS)
def test_what_is_no_blind_replay_is_spared(story):
    """The outcome was known, or the token is another one."""
    assert told(judge(history(story))) == []


def test_a_blind_replay_says_what_was_unknown():
    """The cause names the request and how its reply was lost."""
    (violation,) = judge(history(BLIND_REPLAYS["by another worker"])).violations
    (silent,) = judge(history(BLIND_REPLAYS["after a request that was never answered"])).violations

    assert str(violation) == "rt#1 by w0 (#2, unknown outcome) and w1 (#4)"
    unknown = "whether #2 had spent rt#1 could not be known (lost-reply)"
    assert violation.cause == f"replay after an unknown outcome: {unknown}"
    assert (violation.seq, violation.actors) == (4, ("w0", "w1"))
    assert "(no reply)" in silent.cause


def test_blind_replays_of_one_token_are_told_once():
    """Ten retries are one mistake."""
    (violation,) = judge(history(LOST + "b: w0 token rt#1\nb info\nc: w1 token rt#1\nc fail 400")).violations

    assert (str(violation), violation.more) == ("rt#1 by w0 (#2, unknown outcome) and w0 (#4)", 1)


def test_a_request_that_was_sent_before_the_loss_is_a_double_spend_only():
    """Whoever sends at the same time is not blind."""
    story = "login\na: w0 token rt#1\nb: w1 token rt#1\na info\nb ok at#2 rt#2"

    assert told(judge(history(story))) == ["double-spend: rt#1 by w0 (#2) and w1 (#3)"]


def test_after_a_success_it_is_a_double_spend_and_not_blind():
    """The success says that the token is spent."""
    story = "login\na: w0 token rt#1\nb: w1 token rt#1\na info\nb ok at#2 rt#2\nc: w2 token rt#1"

    (violation,) = judge(history(story)).violations

    assert (violation.invariant, violation.more) == ("double-spend", 1)


def test_the_first_success_is_the_one_that_counts():
    """Under a grace window there may be several; whoever sends after one of them is not blind."""
    story = """
        login
        a: w0 token rt#1
        b: w1 token rt#1
        c: w2 token rt#1
        a info fault=lost-reply
        b ok at#2 rt#2
        d: w3 token rt#1
        d commit reused
        c ok at#3 rt#3
    """

    assert [it.invariant for it in judge(history(story, GRACE)).violations] == ["double-spend"]


def test_a_blind_replay_inside_a_grace_window_is_a_note():
    """That is what the window is for."""
    story = LOST + "b: w0 token rt#1\nb commit replayed at#3 rt#3\nb ok at#3 rt#3"
    verdict = judge(history(story, GRACE))

    assert (told(verdict), noted(verdict)) == ([], ["excused blind-replay"])


def test_a_blind_replay_after_the_grace_window_counts_when_it_is_refused():
    """The window was over."""
    (violation,) = judge(history(LOST + "b: w0 token rt#1\nb commit reused\nb fail 400", GRACE)).violations

    assert (violation.invariant, violation.seq) == ("blind-replay", 5)


def test_a_blind_replay_without_rotation_is_a_note():
    """Nothing is spent by its use."""
    verdict = judge(history(LOST + "b: w0 token rt#1\nb ok at#3", NO_ROTATION))

    assert (told(verdict), noted(verdict)) == ([], ["excused blind-replay"])
