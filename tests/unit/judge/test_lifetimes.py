"""The lives of access tokens, as the checkers of needless refreshes and missing bearers read them."""

from __future__ import annotations

from pytest_claude_tokens.judge.lifetimes import Lifetimes
from tests.unit.judge.build import history


def lifetimes(text):
    """After all events of that history."""
    told = history(text)
    lives = Lifetimes(told)
    for event in told.events:
        lives.observe(event)
    return lives


def test_a_token_is_over_at_its_time_whoever_asks_first():
    """Its age is the time since it was issued, and its life the time that it was given."""
    story = "t 10\nlogin expires=110\nt {}\na: w0 token rt#1"
    assert lifetimes(story.format(109)).is_live("g#1", "at#1")
    assert lifetimes(story.format(109)).age("g#1", "at#1") == (99, 100)
    assert not lifetimes(story.format(110)).is_live("g#1", "at#1")
    assert lifetimes(story.format(110)).ended("g#1") == 1


def test_of_a_token_that_nobody_issued_no_age_is_known():
    assert lifetimes("t 50\nlogin\na: w0 token rt#1").age("g#1", "at#9") == (0, 0)


def test_the_first_token_of_an_unrecorded_login_ends_once():
    """It counts as ended from the start: what is told of it later adds nothing."""
    lives = lifetimes('a: w0 token rt#1\nnote expire ended=["at#1"]')
    assert lives.ended("g#1") == 1
    assert not lives.is_live("g#1", "at#1")
