"""Systematic search: every schedule with at most so many deviations, each once."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from dataclasses import replace
from time import (
    process_time,  # is real everywhere
    sleep,  # in a world: simulated seconds, which pass at once
)
from types import SimpleNamespace

import httpx
import pytest

from pytest_claude_tokens.runs.outcome import Outcome
from pytest_claude_tokens.search.exhaustive import _extensions, enumerate_schedules
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
from tests.unit.simulation.test_conflicts import steps as accesses
from tests.unit.simulation.worlds import explored
from tests.zoo.common import HELLO_URL, TOKEN_URL, Login, redeem, token_request

pytestmark = pytest.mark.usefixtures("staged")


class Kept:
    """A tally that keeps the outcomes."""

    def __init__(self):
        self.outcomes = []

    def count(self, outcome, failure=None):
        self.outcomes.append(outcome)
        return outcome.error is not None


def searched(body, bound, workers=2, **options):
    """The outcomes of a systematic search."""
    kept = Kept()
    with explored(body, workers, record=True, **options) as run:
        enumerate_schedules(run, kept, bound)
    return kept.outcomes


def all_of_them(body, bound, workers=2):
    """The same without leaving any out: each prefix of deviations, extended by each possible one."""
    outcomes = []
    with explored(body, workers, record=True) as run:
        schedules = [DEFAULT_ORDER]
        while schedules:
            schedule = schedules.pop()
            outcome = run(schedule)
            outcomes.append(outcome)
            if len(schedule.deviations) < bound:
                schedules += _extensions(schedule, outcome)
    return outcomes


async def hello():
    async with httpx.AsyncClient() as client:
        await client.get(HELLO_URL)


async def little(claude_tokens, workers):
    """Two workers with a request and two steps each."""

    async def job():
        await asyncio.sleep(0)
        await hello()
        await asyncio.sleep(0)

    await workers(job)


def little_threads(claude_tokens, workers):
    """The same with threads, and a lock."""
    lock = threading.Lock()

    def job():
        with lock:
            httpx.get(HELLO_URL)
        sleep(0)

    workers(job)


async def pool(claude_tokens, workers):
    """A realistic one: refreshed under a lock, checked again inside it."""
    account = claude_tokens.account(expired=True)
    login = Login.of(account.credentials)
    lock = asyncio.Lock()

    async def call():
        nonlocal login
        async with lock:
            if login.expired:
                login = await redeem(login.refresh)

    claude_tokens.watch_store(lambda: login.refresh, account)
    await workers(call)


@pytest.mark.parametrize("body", [little, little_threads, pool])
def test_each_schedule_is_run_once(body):
    """No two are the same, each departs where it says, and none departs more often than allowed."""
    outcomes = searched(body, 2)
    assert all(outcome.taken == outcome.schedule.deviations for outcome in outcomes)
    assert max(len(outcome.taken) for outcome in outcomes) == 2
    counted = Counter(outcome.schedule for outcome in outcomes)
    assert set(counted.values()) == {1}


@pytest.mark.parametrize("body", [little, little_threads])
def test_nothing_that_can_happen_is_left_out(body):
    """Up to the order of independent steps, the histories are those of all schedules within the bound."""
    found, every = searched(body, 2), all_of_them(body, 2)
    assert len({outcome.schedule for outcome in every}) == len(every)
    assert {outcome.schedule for outcome in found} <= {outcome.schedule for outcome in every}
    assert {of_each(outcome) for outcome in found} == {of_each(outcome) for outcome in every}


def test_equivalent_schedules_are_not_taken_further():
    """Where a run is like another one, and can go on in the same ways, so are all that begin with it."""
    run_so_far = []

    def run(schedule):
        run_so_far.append(schedule)
        options = ((("alone", 1), ("clock", 0)),) * 3
        outcome = Outcome(
            schedule=schedule, options=options, error=None, history=None, raced=False, taken=(), decisions=3
        )
        return SimpleNamespace(
            schedule=schedule,
            options=options,
            error=None,
            steps=(),
            timed=False,
            departed=outcome.departed,
            shape=lambda: len(schedule.deviations),
        )

    enumerate_schedules(run, Kept(), 2)
    assert len(run_so_far) == 1 + 6 + 4  # of the six with one deviation only the first is taken further
    assert [deviation.position for deviation in run_so_far[-1].deviations] == [0, 2]


def ran(schedule, steps, *options):
    """A run with these accesses, at whose first decision these could go on."""
    return SimpleNamespace(
        schedule=schedule,
        options=(options,),
        error=None,
        steps=steps,
        timed=False,
        departed=lambda: (0, 0),
        shape=lambda: len(schedule.deviations),
    )


def test_where_a_later_run_has_shown_a_conflict_the_earlier_ones_are_preempted_too():
    """In default order the second worker does not even get to its access."""
    both, run_so_far = accesses("0w", "1w"), []

    def run(schedule):
        run_so_far.append(schedule)
        return ran(schedule, both if schedule.deviations else both[:1], ("alone", 1))

    enumerate_schedules(run, Kept(), 1)
    assert [[(one.what, one.place) for one in schedule.deviations] for schedule in run_so_far] == [
        [],
        [("alone", "")],
        [("preempt", both[0].access.place)],
    ]


def test_who_was_preempted_does_not_get_its_turn_back_at_once():
    """That would be the run without the preemption."""
    lost = replace(accesses("0w")[0], touched=())
    found = _extensions(Schedule(), ran(Schedule(), [lost], ("alone", 0), ("alone", 1)))
    assert [schedule.deviations for schedule in found] == [(Deviation(0, "alone", 1, 1),)]


def of_each(outcome):
    """What each worker did, in its order."""
    sequences = {}
    for event in outcome.history:
        sequences.setdefault(event.actor, []).append((event.type, event.f, event.status))
    return tuple(sorted((actor, tuple(events)) for actor, events in sequences.items()))


def steps(number):
    """A body that fails as soon as one worker has taken two steps in a row, so many times in all."""

    async def body(claude_tokens, workers):
        order = []

        async def job(name):
            await hello()
            for _ in range(6):
                order.append(name)
                await asyncio.sleep(0)

        await workers(lambda: job("a"), lambda: job("b"))
        doubles = sum(one == two for one, two in itertools.pairwise(order[:10]))
        assert doubles < number

    return body


@pytest.mark.parametrize("needed", [1, 2])
def test_what_needs_so_many_deviations_is_found_with_as_many_and_not_with_fewer(needed):
    """The bound means what it says."""
    without = searched(steps(needed), needed - 1)
    assert all(outcome.error is None for outcome in without)
    within = searched(steps(needed), needed)
    assert isinstance(within[-1].error, AssertionError)
    assert len(within[-1].schedule.deviations) == needed
    assert all(outcome.error is None for outcome in within[:-1])


def test_no_deviations_are_one_schedule():
    """Default order."""
    assert [outcome.schedule for outcome in searched(little, 0)] == [DEFAULT_ORDER]


def test_two_workers_and_two_deviations_take_seconds():
    """On a pool like those that people have, with a client for each request; and it holds."""
    before = process_time()
    outcomes = searched(pool, 2)
    assert all(outcome.error is None for outcome in outcomes)
    assert len(outcomes) > 10
    assert process_time() - before < 5


def test_races_are_found():
    """A pool that refreshes without a lock doesn't need a deviation; one that checks too early needs one."""

    async def early(claude_tokens, workers):
        login = Login.of(claude_tokens.account(expired=True).credentials)
        busy = False

        async def call():
            nonlocal busy, login
            if busy or not login.expired:
                return
            await asyncio.sleep(0)
            was, busy = busy, True
            if not was or login.expired:
                async with httpx.AsyncClient() as client:
                    reply = await client.post(TOKEN_URL, json=token_request(login.refresh))
                if reply.is_success:
                    login = Login.from_reply(reply.json())

        await workers(call)

    outcomes = searched(early, 2)
    assert type(outcomes[-1].error).__name__ == "DoubleSpend"


def test_deviations_follow_one_another():
    """So that two of them are not tried in two orders."""
    for outcome in searched(little, 2):
        positions = [deviation.position for deviation in outcome.schedule.deviations]
        assert positions == sorted(set(positions))
