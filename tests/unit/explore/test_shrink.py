"""From a failing schedule to the shortest one that was found to fail in the same way."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fake_server.faults import Fault
from pytest_claude_tokens.search import shrink as module
from pytest_claude_tokens.search.shrink import as_deviations, merge, shrink
from pytest_claude_tokens.simulation.chooser import Chooser
from pytest_claude_tokens.simulation.schedule import (
    DEFAULT_ORDER,
    EACH_LEG,
    UNTIL_LEG,
    Deviation,
    Latency,
    PlannedFault,
    Schedule,
)
from tests.unit.simulation.worlds import explored, schedules
from tests.zoo.common import Login, redeem


class Overlap(AssertionError):
    """Two were inside at once."""


class Other(AssertionError):
    """Another failure."""


def size(schedule):
    """What a person has to read: the number of deviations, then their numbers."""
    deviations = schedule.deviations
    return len(deviations) + len(schedule.planned_faults), sum(
        deviation.length + deviation.position for deviation in deviations
    )


def pretend(fails):
    """Runs schedules of an imaginary body with three workers and forty decisions; counts them."""
    runs = []

    def run(schedule):
        runs.append(schedule)
        chooser = Chooser(schedule, 3)
        order = []
        for _ in range(40):
            ready = [0, 1, 2]
            index = chooser.next(ready, timer=True, worker_of=int)
            order.append("clock" if index < 0 else ready[index])
        error = fails(order, schedule)
        return SimpleNamespace(
            schedule=schedule,
            error=error,
            taken=tuple(chooser.taken),
            freezes=chooser.as_freezes(),
            slow=(),
            decisions=len(order),
        )

    return run, runs


def overlap(order, schedule):
    """Fails where w2 goes on twice in a row, in another way where w1 goes first."""
    if order[0] == 1:
        return Other()
    return Overlap() if any(a == b == 2 for a, b in pairwise(order)) else None


@settings(max_examples=80, suppress_health_check=[HealthCheck.filter_too_much])
@given(schedules(3), st.integers(1, 800))
def test_result_fails_in_the_same_way_and_is_not_larger(schedule, budget):
    """Of whatever kind the first one was, and within the budget."""
    run, runs = pretend(overlap)
    first = run(schedule)
    assume(first.error is not None)
    runs.clear()
    best, number = shrink(first, run, budget)
    assert type(best.error) is type(first.error)
    assert number == len(runs) <= budget
    assert len(set(runs)) == len(runs)
    assert schedule not in runs
    if schedule.kind == "deviations":
        assert size(best.schedule)[0] <= size(schedule)[0]
    assert type(run(best.schedule).error) is type(first.error)


@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(schedules(3))
def test_result_is_the_shortest_story(schedule):
    """One deviation, of a length of two, as early as it goes: nothing simpler fails."""
    run, _ = pretend(overlap)
    first = run(schedule)
    assume(isinstance(first.error, Overlap))
    best, _ = shrink(first, run)
    assert best.schedule.kind == "deviations"
    assert best.schedule.seed == 0
    assert size(best.schedule)[0] <= 3


def test_walk_is_told_as_facts():
    """By where it departed, then shorter."""
    run, _ = pretend(overlap)
    first = next(o for o in (run(Schedule(kind="walk", seed=seed)) for seed in range(50)) if type(o.error) is Overlap)
    best, _ = shrink(first, run)
    assert best.schedule == Schedule(deviations=(Deviation(0, "alone", 2, 2),))


def test_walk_that_can_not_be_told_stays_a_walk():
    """What fails only as a walk is reported as one, without what doesn't matter."""

    def fails(order, schedule):
        return Overlap() if schedule.kind == "walk" else None

    run, _ = pretend(fails)
    slow = Deviation(3, "slow", 0, 2)
    best, _ = shrink(run(Schedule(kind="walk", seed=9, deviations=(slow,))), run)
    assert best.schedule == Schedule(kind="walk", seed=9)


def test_slow_legs_and_deaths_of_a_walk_are_kept():
    """They are no deviations from the order, so they don't show in what it took."""

    def fails(order, schedule):
        return Overlap() if any(deviation.what == "kill" for deviation in schedule.deviations) else None

    run, _ = pretend(fails)
    best, _ = shrink(
        run(Schedule(kind="pct", seed=4, deviations=(Deviation(7, "kill", 2, 1), Deviation(1, "slow", 0, 2)))), run
    )
    assert best.schedule == Schedule(deviations=(Deviation(0, "kill", 0, 1),))


def test_mishaps_that_do_not_matter_are_left_out():
    """One that does stays."""

    def fails(order, schedule):
        return Overlap() if any(planned.fault == Fault.RESET for planned in schedule.planned_faults) else None

    run, _ = pretend(fails)
    planned_faults = (
        PlannedFault(0, "token", Fault.moved()),
        PlannedFault(1, "token", Fault.RESET),
        PlannedFault(2, "call", Fault.BURST),
    )
    best, _ = shrink(run(Schedule(planned_faults=planned_faults, seed=5)), run)
    assert best.schedule == Schedule(planned_faults=(PlannedFault(1, "token", Fault.RESET),))


def test_seed_that_matters_is_kept():
    """Jitter may be what fails."""
    run, _ = pretend(lambda order, schedule: Overlap() if schedule.seed == 7 else None)
    best, _ = shrink(run(Schedule(seed=7, deviations=(Deviation(3, "alone", 1, 5),))), run)
    assert best.schedule == Schedule(seed=7)


def test_two_long_facts_become_one():
    """Neighbours of a kind are joined, even where both are needed."""

    def fails(order, schedule):
        return Overlap() if order[3:9] == [1] * 6 else None

    run, _ = pretend(fails)
    parts = (
        Deviation(3, "alone", 1, 2),
        Deviation(5, "alone", 1, 2),
        Deviation(7, "alone", 1, 2),
        Deviation(20, "freeze", 0, 3),
    )
    best, _ = shrink(run(Schedule(deviations=parts)), run)
    assert best.schedule == Schedule(deviations=(Deviation(3, "alone", 1, 6),))


def test_many_facts_that_are_all_needed_stay():
    """A search for fewer ones comes to nothing, and ends."""
    wanted = {3: 1, 9: 2, 16: 1, 25: 2, 33: 1}

    def fails(order, schedule):
        return Overlap() if {n: who for n, who in enumerate(order) if who} == wanted else None

    run, runs = pretend(fails)
    deviations = tuple(Deviation(position, "alone", who, 1) for position, who in wanted.items())
    best, _ = shrink(run(Schedule(deviations=deviations)), run)
    assert best.schedule == Schedule(deviations=deviations)
    assert 150 < len(runs) < 800


def test_time_that_passes_early_again_and_again_is_told_as_one_suspended_worker():
    """For far longer than any deviation that is drawn: the many are not even removed one by one before."""
    many = tuple(Deviation(position, what, 0, 1) for position in range(3, 35, 2) for what in ("clock", "alone"))
    slow = Deviation(1, "slow", 0, 2)

    def fails(order, schedule):
        rest = set(schedule.deviations)
        suspended = any((one.what, one.position, one.target) == ("freeze", 5, 1) and one.length >= 3000 for one in rest)
        return Overlap() if slow in rest and (suspended or set(many) <= rest) else None

    run, runs = pretend(fails)
    best, _ = shrink(run(Schedule(deviations=(slow, *many))), run)
    assert best.schedule.deviations[0] == slow
    (freeze,) = best.schedule.deviations[1:]
    assert (freeze.what, freeze.position, freeze.target) == ("freeze", 5, 1)
    assert 3000 <= freeze.length < 3050
    assert len(runs) < 150


def test_other_facts_may_tell_the_same_in_fewer_words():
    """Where many are needed of one kind, one of another kind may do: it is looked for."""
    many = tuple(Deviation(position, "alone", 1 + position % 2, 1) for position in (5, 11, 18, 26))

    def fails(order, schedule):
        frozen = any(deviation.what == "freeze" and deviation.length >= 8 for deviation in schedule.deviations)
        return Overlap() if frozen or set(many) <= set(schedule.deviations) else None

    run, _ = pretend(fails)
    slow = Deviation(1, "slow", 0, 2)
    best, _ = shrink(run(Schedule(deviations=(slow, *many))), run)
    assert best.schedule == Schedule(deviations=(Deviation(0, "freeze", 0, 8),))


def test_one_fact_less_may_need_the_later_ones_shifted():
    """What was left out had moved them."""

    def fails(order, schedule):
        first = next((n for n, who in enumerate(order) if who == 1), None)
        second = next((n for n, who in enumerate(order) if who == 2), None)
        return Overlap() if (first, second) in ((4, 9), (None, 10)) else None

    run, _ = pretend(fails)
    best, _ = shrink(run(Schedule(deviations=(Deviation(4, "alone", 1, 1), Deviation(9, "alone", 2, 1)))), run)
    assert best.schedule == Schedule(deviations=(Deviation(10, "alone", 2, 1),))


def test_stock_order_is_short_already():
    """Nothing is tried."""
    run, runs = pretend(lambda order, schedule: Overlap())
    first = run(DEFAULT_ORDER)
    runs.clear()
    assert shrink(first, run) == (first, 0)
    assert runs == []


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["alone", "clock"]), st.integers(0, 1)), max_size=30))
def test_merged_facts_cover_the_same_decisions(steps):
    """No more and no fewer, and neighbours are one."""
    position, taken = 0, []
    for gap, what, who in steps:
        position += gap
        taken.append(Deviation(position, what, who if what == "alone" else 0, 1))
    merged = merge(taken)
    covered = [
        (deviation.position + n, deviation.what, deviation.target)
        for deviation in merged
        for n in range(deviation.length)
    ]
    assert covered == [(deviation.position, deviation.what, deviation.target) for deviation in taken]
    for one, two in pairwise(merged):
        assert (one.what, one.target, one.position + one.length) != (two.what, two.target, two.position)


@pytest.mark.usefixtures("staged")
def test_planted_bug_is_told_in_a_few_facts():
    """Whichever schedule found it, the story is short, and the same thing goes wrong."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        state: dict[str, Any] = {"login": Login.of(account.credentials), "busy": None}

        async def call():
            while state["busy"] is not None:
                await state["busy"].wait()
            if not state["login"].expired:
                return
            await asyncio.sleep(0)
            busy = state["busy"] = asyncio.Event()
            try:
                state["login"] = await redeem(state["login"].refresh)
            finally:
                state["busy"] = None
                busy.set()

        await workers(call, lambda: asyncio.sleep(0), lambda: late(call))

    async def late(call):
        for _ in range(2):
            await asyncio.sleep(0)
        await call()

    found = 0
    with explored(body, 3) as run:
        for kind in ("walk", "pct"):
            for seed in range(12):
                first = run(Schedule(kind=kind, seed=seed))
                if first.error is not None:
                    found += 1
                    best, _ = shrink(first, run)
                    assert type(best.error) is type(first.error)
                    assert len(best.schedule.deviations) <= 4
    assert found


def slow_legs(schedule):
    return {one.position: one.length for one in schedule.deviations if one.what == "slow"}


def test_times_are_told_in_round_numbers():
    """The shortest of those that do; else in whole seconds, if that does."""

    def fails(order, schedule):
        return Overlap() if slow_legs(schedule).get(1, 0) > least else None

    for least, told in ((800, 1000), (12_300, 13_000), (37, 100)):
        run, _ = pretend(fails)
        best, _ = shrink(run(Schedule(deviations=(Deviation(1, "slow", 0, max(120, int(least) + 345)),))), run)
        assert slow_legs(best.schedule) == {1: told}


def test_legs_that_must_all_be_slow_are_told_as_one():
    """Each takes as long."""

    def fails(order, schedule):
        slow = slow_legs(schedule)
        return Overlap() if all(slow.get(leg, slow.get(-1, 0)) >= 2000 for leg in range(5)) else None

    run, _ = pretend(fails)
    best, _ = shrink(run(Schedule(deviations=tuple(Deviation(leg, "slow", 0, 2500) for leg in range(5)))), run)
    assert best.schedule == Schedule(deviations=(Deviation(-1, "slow", 0, 2000),))


def test_legs_that_must_not_all_be_slow_are_told_one_by_one():
    """Where one of them has to be fast."""

    def fails(order, schedule):
        slow = slow_legs(schedule)
        return Overlap() if slow.get(0, 0) > 1500 and slow.get(2, 0) > 1500 and EACH_LEG not in slow else None

    run, _ = pretend(fails)
    best, _ = shrink(run(Schedule(deviations=tuple(Deviation(leg, "slow", 0, 2500) for leg in (0, 2)))), run)
    assert slow_legs(best.schedule) == {0: 2000, 2: 2000}


def test_others_that_are_frozen_are_told_as_the_one_that_runs_alone():
    """Which is one fact, however many the others are."""

    def fails(order, schedule):
        return Overlap() if order[3:7] == [2] * 4 else None

    run, _ = pretend(fails)
    best, _ = shrink(run(Schedule(deviations=(Deviation(3, "freeze", 0, 4), Deviation(3, "freeze", 1, 4)))), run)
    assert best.schedule == Schedule(deviations=(Deviation(3, "alone", 2, 4),))


@pytest.mark.parametrize(("needed", "told"), [(1, 1), (3, 3), (4, UNTIL_LEG)])
def test_a_long_absence_becomes_a_few_decisions_or_stays_what_it_is(needed, told):
    """Nobody counts hundreds of decisions."""

    def run(schedule):
        long = [one.length for one in schedule.deviations if one.what == "preempt" and one.length >= needed]
        return SimpleNamespace(
            schedule=schedule, error=Overlap() if long else None, taken=(), freezes=(), slow=(), decisions=9
        )

    first = run(Schedule(deviations=(Deviation(0, "preempt", 0, UNTIL_LEG, "a.py:1:9:x"),)))
    best, _ = shrink(first, run)
    assert [one.length for one in best.schedule.deviations] == [told]


def test_what_takes_too_long_is_told_as_it_is(monkeypatch):
    """Runs that starve take seconds each."""
    monkeypatch.setattr(module, "MOST_SECONDS", -1.0)
    run, runs = pretend(lambda order, schedule: Overlap())
    first = run(Schedule(deviations=(Deviation(0, "freeze", 0, 5),)))
    assert shrink(first, run) == (first, 0)
    assert len(runs) == 1


def test_drawn_latencies_are_told_as_slow_legs():
    """As the run recorded them, in place of what it drew them from."""

    def fails(order, schedule):
        slow = slow_legs(schedule)
        return Overlap() if slow.get(2) or slow.get(EACH_LEG, 0) > 1 or schedule.latency.kind != "none" else None

    run, _ = pretend(fails)
    for latency in (Latency("uniform", 2000), Latency("same", 1000)):
        first = run(Schedule(seed=3, latency=latency))
        first.slow = tuple(Deviation(leg, "slow", 0, 1000) for leg in range(4))
        each = (Deviation(EACH_LEG, "slow", 0, 1000),)
        assert as_deviations(first).deviations == (each if latency.kind == "same" else first.slow)
        best, _ = shrink(first, run)
        told = Deviation(EACH_LEG, "slow", 0, 10) if latency.kind == "same" else Deviation(2, "slow", 0, 1)
        assert best.schedule == Schedule(deviations=(told,))
