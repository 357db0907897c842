"""How a transport waits in a world: in simulated time, for as long as the schedule says."""

from __future__ import annotations

from asyncio import current_task, get_running_loop
from contextlib import nullcontext
from dataclasses import replace
from math import inf
from random import Random
from types import coroutine
from typing import TYPE_CHECKING, Any

from fake_server.effects import Wait
from fake_server.protocol.actors import WORKER
from fake_server.transports.inprocess import running_trio, wait_in_trio
from pytest_claude_tokens.simulation.internals import wake_up
from pytest_claude_tokens.simulation.patience import ON_ITS_WAY
from pytest_claude_tokens.simulation.schedule import EACH_LEG, Deviation
from pytest_claude_tokens.simulation.thread_record import Stopped, worker_number
from pytest_claude_tokens.simulation.trio_runs import trio_patient

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Generator

    from pytest_claude_tokens.simulation.schedule import Schedule
    from pytest_claude_tokens.simulation.world import World

__all__ = ["SimulatedWaiter", "sleep"]


class SimulatedWaiter:
    """Waits in one run. Network legs are numbered as they come; the schedule makes some of them slow."""

    def __init__(self, world: World, schedule: Schedule) -> None:
        self.world = world
        self._slow = {
            deviation.position: deviation.length for deviation in schedule.deviations if deviation.what == "slow"
        }
        self._each = self._slow.pop(EACH_LEG, 0)
        self._latency = schedule.latency
        self._random = Random(~schedule.seed) if schedule.latency.kind != "none" else None
        self.legs: int = 0
        self.first_decision: int = 0
        self.last_decision: int = 0
        """The numbers of the decisions before which the first leg and the last one began."""
        self.begun: list[int] = []
        """That of each leg, if the chooser records what was possible."""
        self.taken: list[Deviation] = []
        """The legs that were slow although no deviation names them."""

    def seconds(self, wait: Wait, asking: int) -> float:
        """How long a wait without a signal takes. ``asking``: the number of who waits, for :class:`Patience`."""
        if wait.why not in ("request", "reply", "piece"):
            return wait.seconds or 0.0
        leg = self.legs
        self.legs += 1
        chooser = self.world.chooser
        self.last_decision = chooser.decision
        if chooser.options is not None:
            self.begun.append(chooser.decision)
        if not leg:
            self.first_decision = chooser.decision
        chooser.note_leg(leg, worker_number(WORKER.get()))
        milliseconds = self._slow.get(leg, self._each)
        if self._random is not None and leg not in self._slow:
            milliseconds = self._drawn(self._random, wait)
            if milliseconds:
                self.taken.append(Deviation(leg, "slow", 0, milliseconds))
        if not milliseconds:
            return 0.0
        granted = self.world.spend(milliseconds / 1000, wait.why, worker_number(WORKER.get()))
        self.world.patience.expect(asking, self.world.now + granted)
        return granted

    def _drawn(self, random: Random, wait: Wait) -> int:
        kind, longest = self._latency.kind, self._latency.milliseconds
        share = random.random()
        if (kind == "requests" and wait.why != "request") or (kind == "replies" and wait.why == "request"):
            return 0
        if kind == "worker" and worker_number(WORKER.get()) != self._latency.milliseconds % self.world.workers:
            return 0
        if kind == "same":
            return longest
        return int(longest * (share**5 if kind == "heavy" else share))

    def suspended(self) -> float:
        """For how many seconds the worker that calls was suspended."""
        return self.world.patience.suspended[worker_number(WORKER.get())]

    def wait(self, wait: Wait) -> None:
        """For a synchronous client in a thread of the world."""
        world = self.world
        record = world.me()
        if record is None:  # the world ended while the thread was blocked outside
            raise Stopped
        asking = world.patience.begin(wait, record.worker, record.asking)
        try:
            if wait.signal is None:
                world.sleep(record, self.seconds(wait, asking))
            elif not wait.signal.fired:
                waiting = [record]
                wait.signal.subscribe(lambda: world.wake(record) if waiting else None)
                try:
                    world.block(record, f"the {wait.why} of the fake service", wait.seconds)
                finally:
                    waiting.clear()
        finally:
            world.patience.end(asking)

    async def wait_async(self, wait: Wait) -> None:
        """For an asynchronous client on a loop of the world, or in a run of trio in one of its threads."""
        patience = self.world.patience
        if (trio := running_trio()) is not None:
            task = getattr(self.world.me(), "asking", None)
            asking = patience.begin(self._within_scopes(trio, wait), worker_number(WORKER.get()), task)
            try:
                with trio_patient(self.suspended) if wait.why in ON_ITS_WAY else nullcontext():
                    await self._wait_in_trio(trio, wait, asking)
            finally:
                patience.end(asking)
            return
        asking = patience.begin(wait, worker_number(WORKER.get()), current_task())
        try:
            await self._wait_in_task(wait, asking)
        finally:
            patience.end(asking)

    def _within_scopes(self, trio: Any, wait: Wait) -> Wait:
        """The wait, with the time at which a scope of trio's ends it."""
        left = trio.current_effective_deadline() - trio.current_time()
        until = self.world.now + left
        return replace(wait, until=until if wait.until is None else min(until, wait.until))

    async def _wait_in_task(self, wait: Wait, asking: int) -> None:
        loop = get_running_loop()
        if wait.signal is None:
            await sleep(loop, self.seconds(wait, asking))
        elif not wait.signal.fired:
            future = loop.create_future()

            def wake() -> None:
                if not future.done():
                    future.set_result(None)
                    wake_up(loop)  # the loop may belong to another thread, and be idle

            wait.signal.subscribe(wake)
            timer = None if wait.seconds is None else loop.call_later(wait.seconds, wake)
            try:
                await future
            finally:
                if timer is not None:
                    timer.cancel()

    async def _wait_in_trio(self, trio: Any, wait: Wait, asking: int) -> None:
        if wait.signal is None:
            await trio.sleep(self.seconds(wait, asking))
        else:
            with trio.move_on_after(inf if wait.seconds is None else wait.seconds):
                await wait_in_trio(trio, Wait(wait.why, None, wait.signal))


@coroutine
def _step() -> Generator[None, None, None]:
    yield


async def sleep(loop: AbstractEventLoop, seconds: float) -> None:
    """``asyncio.sleep``, which a test may have replaced to make its own pauses short."""
    if seconds <= 0:
        await _step()
        return
    future = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    timer = loop.call_later(seconds, wake)
    try:
        await future
    finally:
        timer.cancel()
