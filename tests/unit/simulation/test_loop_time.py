"""Time on the simulated loop, and the limits at which a run on it is given up."""

from __future__ import annotations

import asyncio
import time

import pytest

from pytest_claude_tokens.simulation import scheduler
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.thread_record import Stuck
from tests.unit.simulation.worlds import ALWAYS_CLOCK, run_tasks, start, world

pytestmark = pytest.mark.usefixtures("staged")


async def spin(until):
    while not until.done():
        await asyncio.sleep(0)


# Time.


def test_idle_time_passes_at_once():
    """Hours of sleep take no real time, and every clock agrees on them."""

    async def body():
        before = time.time(), time.monotonic(), asyncio.get_running_loop().time()
        await asyncio.sleep(7200)
        return [
            b - a
            for a, b in zip(before, (time.time(), time.monotonic(), asyncio.get_running_loop().time()), strict=True)
        ]

    assert run_tasks(body) == [7200, 7200, 7200]


def test_time_stands_still_while_somebody_can_run():
    """In default order a spinning task keeps every later timer from firing."""

    async def body():
        loop = asyncio.get_running_loop()
        fired = []
        loop.call_later(0.001, fired.append, "late")
        for _ in range(300):
            await asyncio.sleep(0)
        assert not fired
        await asyncio.sleep(1)
        return fired

    assert run_tasks(body) == ["late"]


def test_timer_that_is_due_does_not_wait_for_others_to_be_idle():
    """A spinning task must not hide a timer of no delay, as it would not in asyncio."""

    async def body():
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0, done.set_result, "fired")
        await spin(done)
        return done.result(), asyncio.get_running_loop().time()

    assert run_tasks(body) == ("fired", 0)


def test_early_timers_move_time_by_a_minute_at_most():
    """However often the schedule fires timers early, it has less than sixty seconds for that in one run."""

    async def body():
        loop = asyncio.get_running_loop()
        fired = []
        for second in range(1, 200):
            loop.call_later(second, fired.append, second)
        for _ in range(200):
            await asyncio.sleep(0)
        assert loop.time() == 59
        return fired

    assert run_tasks(body, ALWAYS_CLOCK) == list(range(1, 60))


def test_timer_beyond_the_minute_never_fires_early():
    """What is left of the minute doesn't reach it."""

    async def body():
        fired = []
        asyncio.get_running_loop().call_later(61, fired.append, 1)
        for _ in range(100):
            await asyncio.sleep(0)
        return fired

    assert run_tasks(body, ALWAYS_CLOCK) == []


def test_cancelled_timers_are_skipped():
    """A time-out that was called off doesn't move the clock."""

    async def body():
        loop = asyncio.get_running_loop()
        for seconds in (1, 2, 3):
            loop.call_later(seconds, pytest.fail, "cancelled").cancel()
        async with asyncio.timeout(50):
            await asyncio.sleep(5)
        return loop.time()

    assert run_tasks(body) == 5


# Limits.


def test_endless_sleeping_ends_as_starved():
    """A day of simulated time is enough."""

    async def body():
        while True:
            await asyncio.sleep(100)

    with world() as new:
        loop = SimulatedLoop(new)
        with pytest.raises(Stuck):
            loop.run(body())
        loop.shut()
    assert new.starved == "no end after 86,400 s"


@pytest.mark.parametrize("tasks", [1, 3])
def test_endless_spinning_ends_as_starved(monkeypatch, tasks):
    """Of one task alone, too, which never leaves a choice."""
    monkeypatch.setattr(scheduler, "MAX_DECISIONS", 2000)

    async def body():
        await asyncio.gather(*[spin(asyncio.Future()) for _ in range(tasks)])

    with world() as new:
        loop = SimulatedLoop(new)
        with pytest.raises(Stuck):
            loop.run(body())
        loop.shut()
    assert new.starved == "no end after 2,000 decisions without progress"


def test_deadlock_is_told_with_the_lines_where_tasks_wait():
    """Nobody can ever run again: the loop says so, and where, in the author's own code."""

    async def forever():
        await asyncio.Event().wait()

    async def generate():
        await forever()
        yield 1

    async def iterate():
        async for _ in generate():
            pass

    async def body():
        start(asyncio.Event().wait())  # of this there is nothing to tell
        await asyncio.gather(forever(), iterate())

    with world() as new:
        loop = SimulatedLoop(new)
        with pytest.raises(Stuck):
            loop.run(body())
        assert [line.partition(" waits at test_loop_time.py:")[0] for line in loop.pending()] == [
            "task-1",
            "task-3",
            "task-4",
        ]
        assert [line.rpartition(" in ")[2] for line in loop.pending()] == ["body", "forever", "iterate"]
        loop.shut()
        assert loop.pending() == []
    assert new.starved is None


@pytest.mark.parametrize("pause", [0, 1000])
def test_task_that_refuses_to_end_is_given_up(monkeypatch, pause):
    """What is cleaned up may take its simulated time, but the clearing has an end."""
    monkeypatch.setattr(scheduler, "MAX_DECISIONS", 3000)
    refused, ended = [], []

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(pause if refused else 10)
            except asyncio.CancelledError:
                refused.append(asyncio.current_task())

    async def orderly():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(200_000 if pause else 0)
            ended.append("ended")

    async def body():
        start(orderly())
        start(stubborn())
        await asyncio.sleep(1)

    run_tasks(body)
    assert ended == ["ended"]
    assert len(refused) == 1
