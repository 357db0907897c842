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
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
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
    """Out, back, and between pieces, in their order; a minute in all."""

    async def body(claude_tokens, workers):
        await ask()
        times.append(monotonic())
        await ask()
        times.append(monotonic())

    times: list[float] = []
    slow = tuple(Deviation(leg, "slow", 0, 50_000) for leg in range(3))
    outcome_of(body, Schedule(deviations=slow))
    assert times == [60, 60]
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
