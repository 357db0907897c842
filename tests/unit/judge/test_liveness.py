"""What others have noted: jobs that never ended, tokens in the open."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.violations import Deadlock, Starvation, TokenLeak
from tests.unit.judge.build import history, told


def test_a_starved_job_is_a_violation():
    """Its worker and why."""
    (violation,) = judge(history("login\nnote starved actor=w1 why=86,400~s~are~over")).violations

    assert type(violation) is Starvation
    assert str(violation) == "w1: 86,400 s are over"
    assert (violation.seq, violation.actors, violation.cause) == (2, ("w1",), "86,400 s are over")


def test_a_starved_job_may_say_nothing():
    """Then we say it."""
    assert told(judge(history("note starved actor=w1"))) == ["starvation: w1: no end"]


def test_a_run_that_starves_as_a_whole_names_no_worker():
    """The search ran out of time or of decisions."""
    (violation,) = judge(history("note starved why=no~end~after~86,400~s")).violations

    assert (str(violation), violation.actors) == ("no end after 86,400 s", ())


def test_a_deadlock_tells_who_waits_for_whom():
    """It goes by the name of starvation, and by a class of its own."""
    (violation,) = judge(history('note deadlock waits=["w0~waits~for~w1","w1~waits~for~w0"]')).violations

    assert (type(violation), violation.invariant) == (Deadlock, "starvation")
    assert str(violation) == "w0~waits~for~w1; w1~waits~for~w0"
    assert violation.cause == "nobody can go on: w0~waits~for~w1; w1~waits~for~w0"


@pytest.mark.parametrize(("note", "what"), [("cancel", "cancelled"), ("kill", "killed")])
def test_a_deadlock_tells_who_was_ended_before(note, what):
    """It may have had what the others wait for."""
    notes = f'note {note} actor=w1\nnote deadlock waits=["w0~waits"]\nnote {note} actor=w2'
    (violation,) = judge(history(notes)).violations

    assert violation.cause == f"nobody can go on, and w1 was {what} (#1): w0~waits"


def test_one_that_waits_for_itself_waits_for_no_other():
    """One wait is no ring."""
    (violation,) = judge(history('note deadlock waits=["w0~waits~for~w0"]')).violations

    assert violation.cause == str(violation) == "w0~waits~for~w0"


def test_a_deadlock_may_say_nothing():
    """Then we say it."""
    assert told(judge(history("note deadlock"))) == ["starvation: nothing can happen any more"]


def test_a_token_in_the_open_is_a_violation():
    """Which token, in which place."""
    (violation,) = judge(history("login\nnote leak where=file what=shared/.credentials.json token=rt#1")).violations

    assert type(violation) is TokenLeak
    assert str(violation) == "rt#1 in file: shared/.credentials.json"
    assert (violation.seq, violation.labels, violation.grant) == (2, ("rt#1",), "g#1")


def test_a_leak_is_told_once_for_each_token_and_place():
    """A log that repeats itself is one mistake."""
    story = """
        note leak where=log token=rt#1
        note leak where=log token=rt#1
        note leak where=argv token=rt#1
        note leak where=log token=at#1
        note leak token=at#2
    """
    found = judge(history(story)).violations

    assert [(str(violation), violation.more) for violation in found] == [
        ("rt#1 in log", 1),
        ("rt#1 in argv", 0),
        ("at#1 in log", 0),
        ("at#2 in the open", 0),
    ]
