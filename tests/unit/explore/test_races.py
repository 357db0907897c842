"""What a search says of itself: the races that it has seen in both orders, and the chance of something new."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_claude_tokens.search.context import Report
from pytest_claude_tokens.search.races import Races
from pytest_claude_tokens.search.tally import Tally
from tests.unit.judge.build import history


def calls(*actors, token="at#1"):
    """A history in which these call one after the other."""
    return "login\n" + "".join(f"c{n}: {actor} call {token}\nc{n} ok\n" for n, actor in enumerate(actors))


def refresh(first, *users):
    """One in which ``first`` refreshes, and others use what it brought."""
    end = f"a: {first} token rt#1\na commit rotated at#2 rt#2\na ok at#2 rt#2\n"
    return "login\n" + end + calls(*users, token="at#2").removeprefix("login\n")


TWICE = "login\na: w0 token rt#1\nb: w1 token rt#1\na ok at#2 rt#2\nb fail"
LOST = "login\na: w0 token rt#1\na info\n"


@pytest.mark.parametrize(
    ("runs", "both_ways", "seen"),
    [
        pytest.param([], 0, 0, id="nothing"),
        pytest.param([calls("w0", "w0")], 0, 0, id="one worker races with nobody"),
        pytest.param([calls("w0"), calls("w1")], 0, 0, id="never in one run"),
        pytest.param([calls("w0", "w1")], 0, 1, id="calls in one order"),
        pytest.param([calls("w0", "w1")] * 2, 0, 1, id="the same again"),
        pytest.param([calls("w0", "w1"), calls("w1", "w0")], 1, 1, id="calls in both orders"),
        pytest.param([calls("w0", "w1", "w2"), calls("w1", "w0", "w2")], 1, 3, id="one pair of three"),
        pytest.param([calls("w0", "w0", "w1"), calls("w0", "w1", "w0")], 1, 2, id="two calls are two races"),
        pytest.param([calls(*["w0"] * 9, "w1")], 0, 4, id="of many calls the first ones"),
        pytest.param([calls("w0", "w1", token="unknown")], 0, 0, id="no token of ours"),
        pytest.param([calls("w0", "main"), refresh("main", "w0")], 0, 0, id="the body is no worker"),
        pytest.param([refresh("w0", "main"), TWICE.replace("w1", "main")], 0, 0, id="nor is it where it comes second"),
        pytest.param([calls("w0.1", "w1.2"), calls("w1.1", "w0.1")], 1, 1, id="processes are their workers"),
        pytest.param([refresh("w0", "w0", "w1")], 0, 2, id="the other came second"),
        pytest.param([refresh("w0"), refresh("w1")], 1, 1, id="who refreshes first"),
        pytest.param([refresh("w0"), refresh("w1"), refresh("w2")], 3, 3, id="each of three was first"),
        pytest.param([refresh("w0", "w1"), refresh("w1", "w0")], 1, 1, id="who refreshes, who uses"),
        pytest.param([TWICE], 0, 1, id="both at once"),
        pytest.param([LOST, refresh("w1")], 1, 1, id="a reply that was lost"),
    ],
)
def test_races_are_counted_by_the_orders_in_which_they_were_seen(runs, both_ways, seen):
    """A race is a pair of requests about one token; who refreshes it first decides that the other does not."""
    races = Races()
    for text in runs:
        races.learn(history(text))
    assert (races.both_ways, races.seen) == (both_ways, seen)


def outcome(text):
    """A run with this history."""
    told = history(text)
    return SimpleNamespace(
        error=None,
        mild=None,
        raced=True,
        timed=False,
        unscheduled={},
        ran_out=False,
        history=told,
        fingerprint=lambda: hash(text),
    )


@pytest.mark.parametrize(
    ("drawn", "others", "said"),
    [
        pytest.param("AABC", "", "4 schedules, 3 distinct histories, next new 50%", id="two of four were new"),
        pytest.param("AABC", "BD", "6 schedules, 4 distinct histories, next new 25%", id="the others know one of them"),
        pytest.param("", "AAB", "3 schedules, 2 distinct histories, next new 33%", id="nothing was drawn"),
    ],
)
def test_only_what_was_drawn_is_a_sample(drawn, others, said):
    """A schedule that was chosen says nothing about what the next draw may show, but that its history is known."""
    tally = Tally()
    for name in others:
        tally.count(outcome(f"login\nnote {name}"))
    for name in drawn:
        tally.count(outcome(f"login\nnote {name}"), drawn=True)
    assert tally.report().text() == said


def test_the_report_says_how_many_races_were_reversed():
    """Of more than one worker; and where no two requests were about one token."""
    tally = Tally()
    assert tally.report(2).text().endswith(", next new 100%, no race")
    tally.count(outcome(calls("w0", "w1")))
    assert tally.report(2).text().endswith(", 0 of 1 race both ways")
    assert "race" not in tally.report(1).text()
    told = Report(schedules=9, histories=3, races=1200, both_ways=12, bound=2, slow=60.0).text()
    assert told.endswith(": all with at most 2 deviations, 12 of 1,200 races both ways, delays up to 60 s")
