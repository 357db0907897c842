"""How requests wait under the runner: in simulated time, by the schedule, at the gate."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic  # in a world: simulated seconds, which pass at once

import httpx
import pytest
from hypothesis import given, settings

from fake_server.effects import Signal, Wait
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, EACH_LEG, Deviation, Latency, Schedule
from pytest_claude_tokens.simulation.thread_record import Stopped
from pytest_claude_tokens.simulation.waiter import SimulatedWaiter
from tests.unit.simulation.worlds import ask, outcome_of, run_threads, schedules, world
from tests.zoo.common import (
    CALL_URL,
    MESSAGE,
    bearer_header,
)

pytestmark = pytest.mark.usefixtures("staged")


@settings(max_examples=25)
@given(schedules(2))
def test_requests_of_threads_and_tasks_wait_in_simulated_time(schedule):
    """For latency and for the gate, under any schedule; a second one on the same bearer waits for the first."""

    async def tasks(claude_tokens, workers):
        account = claude_tokens.account()

        async def call():
            async with httpx.AsyncClient() as client:
                await client.post(CALL_URL, json=MESSAGE, headers=bearer_header(account.access_token))

        await workers(call)

    def threads(claude_tokens, workers):
        account = claude_tokens.account()
        workers(lambda: httpx.post(CALL_URL, json=MESSAGE, headers=bearer_header(account.access_token)))

    for body in (tasks, threads):
        outcome = outcome_of(body, schedule, latency={"call": 2}, allow=["co-schedule"])
        assert outcome.error is None
        times = [event.t for event in outcome.history if event.type == "ok"]
        assert len(times) == 2
        assert times[1] - times[0] >= 2 or times[1] >= 2


def test_slow_legs_take_what_the_schedule_says():
    """Out, back, and between pieces, in their order; a minute in all, less a millisecond."""

    async def body(claude_tokens, workers):
        await ask()
        times.append(monotonic())
        await ask()
        times.append(monotonic())

    times: list[float] = []
    slow = tuple(Deviation(leg, "slow", 0, 50_000) for leg in range(3))
    outcome_of(body, Schedule(deviations=slow))
    assert times == [59.999, 59.999]
    times.clear()
    outcome_of(body, Schedule(deviations=(Deviation(2, "slow", 0, 4000),)))
    assert times == [0, 4]


def test_waiter_waits_for_a_signal_or_for_a_while():
    """Whichever comes first; one that has fired is not waited for."""
    with world() as new:
        waiter = SimulatedWaiter(new, DEFAULT_ORDER)
        fired, late = Signal(), Signal()
        fired.fire()
        waiter.wait(Wait("gate", None, fired))
        waiter.wait(Wait("gate", 5, Signal()))
        assert monotonic() == 5
        timer = threading.Timer(3, late.fire)
        timer.start()
        waiter.wait(Wait("gate", 50, late))
        assert monotonic() == 8
        abandoned = Signal()
        waiter.wait(Wait("hold", 1, abandoned))
        abandoned.fire()  # nobody waits any more
        waiter.wait(Wait("latency", 2))
        assert monotonic() == 11

        async def same():
            await waiter.wait_async(Wait("gate", None, fired))
            await waiter.wait_async(Wait("gate", 5, Signal()))
            signal = Signal()
            asyncio.get_running_loop().call_later(3, signal.fire)
            await waiter.wait_async(Wait("gate", 50, signal))
            forever = Signal()
            asyncio.get_running_loop().call_later(1, forever.fire)
            await waiter.wait_async(Wait("gate", None, forever))
            again = Signal()
            await waiter.wait_async(Wait("gate", 1, again))
            again.fire()
            await waiter.wait_async(Wait("latency", 2))
            return monotonic()

        loop = SimulatedLoop(new)
        assert loop.run(same()) == 23
        loop.shut()


def test_deadlock_over_a_bearer_is_told_as_the_services():
    """A thread that waits at the gate says so."""

    def wait():
        with world() as new:
            pass
        del new
        SimulatedWaiter(ACTIVE.world, DEFAULT_ORDER).wait(Wait("gate", 5, Signal()))
        return ACTIVE.world.me().why

    assert run_threads(wait) == ["the gate of the fake service"]


def test_nobody_waits_in_a_world_that_has_ended():
    """A thread that was blocked outside comes back to it too late."""
    with world() as new:
        waiter = SimulatedWaiter(new, DEFAULT_ORDER)
    new.release()
    with pytest.raises(Stopped):
        waiter.wait(Wait("gate", 5, Signal()))


# Latencies that are drawn.


def legs_of(latency, *, deviations=(), by_workers=False):
    """The legs of eight requests that were slow, with their milliseconds, as the run recorded them."""

    async def ask_in_a_row():
        for _ in range(4):
            await ask()

    async def body(claude_tokens, workers):
        if by_workers:
            await workers(ask_in_a_row)
        else:
            await ask_in_a_row()
            await ask_in_a_row()

    outcome = outcome_of(body, Schedule(seed=1, latency=latency, deviations=deviations), allow=["co-schedule"])
    assert outcome.legs == 16
    assert (outcome.last_leg > outcome.first_leg) == by_workers
    return {one.position: one.length for one in outcome.slow}


def test_latencies_of_each_kind():
    """All the same, or up to so long; mostly short; of one direction; of one worker."""
    assert legs_of(Latency()) == {}
    assert legs_of(Latency("same", 700)) == dict.fromkeys(range(16), 700)
    uniform = legs_of(Latency("uniform", 700))
    assert 13 <= len(uniform) <= 16
    assert max(uniform.values()) <= 700 < 2 * max(uniform.values())
    heavy = sorted(legs_of(Latency("heavy", 7000)).values())
    assert heavy[len(heavy) // 2] < 1000 < heavy[-1]
    one_way = [set(legs_of(Latency(kind, 700))) for kind in ("requests", "replies")]
    assert one_way[0] <= {0, 2, 4, 6, 8, 10, 12, 14}
    assert one_way[1] <= {1, 3, 5, 7, 9, 11, 13, 15}
    assert all(6 <= len(legs) <= 8 for legs in one_way)
    by_worker = [legs_of(Latency("worker", longest), by_workers=True) for longest in (700, 701)]
    assert all(1 <= len(legs) <= 8 for legs in by_worker)


def test_leg_that_a_deviation_names_is_not_drawn():
    """What a failing run drew is told as deviations, which must count."""
    named = Deviation(3, "slow", 0, 5)
    assert set(legs_of(Latency("same", 700), deviations=(named,))) == set(range(16)) - {3}
    assert legs_of(Latency(), deviations=(Deviation(EACH_LEG, "slow", 0, 700), named)) == {}


def test_each_leg_may_be_slow():
    """But for those that are named."""

    async def body(claude_tokens, workers):
        await ask()
        times.append(monotonic())

    times: list[float] = []
    slow = (Deviation(EACH_LEG, "slow", 0, 2000), Deviation(1, "slow", 0, 500))
    outcome_of(body, Schedule(deviations=slow))
    assert times == [2.5]


def test_delays_that_overlap_count_once():
    """Two requests at once that take forty seconds make nobody later than forty; a minute is what there is in all."""

    async def body(claude_tokens, workers):
        async def job():
            await ask()
            times.append(monotonic())

        await workers(job)

    times: list[float] = []
    outcome_of(body, Schedule(latency=Latency("same", 20_000)), allow=["co-schedule"])
    assert times == [40, 40]
    times.clear()
    outcome_of(body, Schedule(latency=Latency("same", 50_000)), allow=["co-schedule"])
    assert times == [59.999, 59.999]


def test_late_step_lets_time_pass():
    """Although nobody sleeps; and what a paced run was late by is told in deviations that make the same run."""

    async def body(claude_tokens, workers):
        async def job():
            for _ in range(5):
                await asyncio.sleep(0)
                times.append(monotonic())

        await workers(job)

    times: list[float] = []
    outcome_of(body, Schedule(deviations=(Deviation(9, "late", 0, 1500),)))
    assert set(times) == {0.0, 1.5}
    times.clear()
    outcome = outcome_of(body, Schedule("paced", seed=4, scale=1000))
    first = list(times)
    assert any(first)
    assert any(one.what == "late" for one in outcome.slow)
    times.clear()
    outcome_of(body, Schedule(deviations=(*outcome.freezes, *outcome.slow)))
    assert times == first
