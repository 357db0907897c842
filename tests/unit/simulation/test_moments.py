"""What deviations did, in words: who overtook whom, and at which moment of his."""

from __future__ import annotations

import asyncio

import pytest

from fake_server.events import Event
from pytest_claude_tokens.simulation.chooser import CLOCK, Chooser
from pytest_claude_tokens.simulation.moments import Moments, WatchedChooser
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from pytest_claude_tokens.simulation.witness import witnessed
from tests.unit.simulation.worlds import outcome_of
from tests.zoo.common import redeem

FREEZE, ALONE, EARLY = Deviation(2, "freeze", 0, 3), Deviation(2, "alone", 1, 3), Deviation(2, "clock", 0, 3)


def event(seq, actor, kind, op=None, f="token"):
    return Event(seq=seq, t=0.0, actor=actor, type=kind, f=f, op=op)


def moments(*events):
    """Of a run with these events, in which worker 0 is always at one line."""
    told = Moments(lambda worker: "pool.py:31" if worker == 0 else "")
    for one in events:
        told.observe(one)
    return told


def words(told, *deviations):
    return list(told.words(Schedule(deviations=deviations)).values())


@pytest.mark.parametrize(
    ("events", "when"),
    [
        ([], "before w0's first request (pool.py:31)"),
        ([event(4, "w0", "invoke", 1)], "after w0's request #4 was sent (pool.py:31)"),
        ([event(4, "w0", "invoke", 1), event(7, "w0", "ok", 1)], "after the reply to w0's #4 (pool.py:31)"),
        ([event(4, "w1", "invoke", 1), event(5, "w0", "note", 1)], "before w0's first request (pool.py:31)"),
    ],
)
def test_the_moment_is_that_of_whoever_is_overtaken(events, when):
    """After which of his requests or replies, and at which line he is."""
    told = moments(*events)
    told.passed(2, 1, [0, 2, 0])

    assert words(told, FREEZE) == words(told, ALONE) == [f"w1 overtakes w0 {when}"]


@pytest.mark.parametrize(
    ("passed", "deviation", "expected"),
    [
        (
            [(2, 1, [0]), (3, 2, [0]), (4, 1, [0])],
            FREEZE,
            "w1 and w2 overtake w0 before w0's first request (pool.py:31)",
        ),
        ([(2, 1, [0]), (3, CLOCK, [0])], FREEZE, "w1 overtakes w0 before w0's first request (pool.py:31)"),
        ([(2, -3, [0])], FREEZE, "a task of no worker's overtakes w0 before w0's first request (pool.py:31)"),
        ([(2, CLOCK, [0])], FREEZE, "time passes before w0 goes on, before w0's first request (pool.py:31)"),
        ([(2, CLOCK, [2, 0])], EARLY, "time passes before w2 goes on, before w2's first request"),
        ([(2, 1, [2, 0])], ALONE, "w1 overtakes w2 before w2's first request"),
        ([(1, 1, [0]), (5, 1, [0])], FREEZE, None),
        ([(2, 1, [2])], FREEZE, None),
        ([(2, 2, [0])], ALONE, None),
        ([(2, 1, [-1])], ALONE, None),
        ([(2, 1, [0])], EARLY, None),
        ([], ALONE, None),
    ],
)
def test_a_deviation_is_told_by_the_decisions_that_it_changed(passed, deviation, expected):
    """While it was in force; one that changed none has no words."""
    told = moments()
    for one in passed:
        told.passed(*one)

    assert words(told, deviation) == ([expected] if expected else [])


def test_ends_and_delays_are_told_with_their_moment():
    """Other deviations say all there is to say."""
    told = moments(event(2, "w0", "invoke", 1), event(3, "w0", "note", f="cancel"), event(4, "w1", "note", f="kill"))
    told.late(7, 0)

    assert words(
        told,
        Deviation(1, "cancel", 0, 1),
        Deviation(1, "kill", 1, 9),
        Deviation(1, "kill", 0, 1),
        Deviation(7, "late", 0, 1500),
        Deviation(8, "late", 0, 1500),
        Deviation(3, "slow", 0, 5),
    ) == [
        "w0 is cancelled after w0's request #2 was sent (pool.py:31)",
        "w1 is killed before w1's first request",
        "1.5 s pass after w0's request #2 was sent (pool.py:31)",
    ]


def test_words_stand_before_what_they_are_said_of():
    """The decisions are for those who look into the search."""
    schedule = Schedule(deviations=(FREEZE, ALONE))

    assert schedule.text({ALONE: "w1 overtakes w0"}) == (
        "w0 is frozen for 3 decisions from decision 2; w1 overtakes w0 [w1 runs alone for 3 decisions from decision 2]"
    )


@pytest.mark.parametrize("watched", [True, False])
def test_a_chooser_tells_of_what_it_changes(monkeypatch, watched):
    """And chooses as any other."""
    late = Deviation(1, "late", 0, 500)
    schedule = Schedule(deviations=(FREEZE, Deviation(9, "clock", 0, 1), late))
    plain, watching = Chooser(schedule, 2), WatchedChooser(schedule, 2)
    told = moments()
    monkeypatch.setattr(WatchedChooser, "moments", told if watched else None)
    for chooser in (plain, watching):
        chosen = []
        for chooser.decision in (1, 2, 9):
            chosen.append(chooser.choose([0, 1], timer=True))
        assert chosen == [0, 1, CLOCK]
        assert [chooser.seconds_late(step, 0, 0.0) for step in (0, 1)] == [0.0, 0.5]

    assert len(words(told, *schedule.deviations)) == (3 if watched else 0)


@pytest.mark.usefixtures("staged")
def test_a_witness_knows_where_the_overtaken_one_is():
    """At the line where its coroutine waits."""

    async def body(claude_tokens, workers):
        refresh = claude_tokens.account(expired=True).refresh_token

        async def job():
            await asyncio.sleep(0)
            await redeem(refresh)

        await workers(job)

    found = []
    for position in range(8):
        schedule = Schedule(deviations=(Deviation(position, "freeze", 0, 1),))
        with witnessed() as witness:
            outcome_of(body, schedule)
        found += words(witness.moments, *schedule.deviations)
    line = f"test_moments.py:{body.__code__.co_firstlineno + 4}"
    assert f"w1 overtakes w0 before w0's first request ({line})" in found
    assert witness._place(0) == ""
