"""One run of a body under one schedule: a world, a fresh service, the body, and what came of it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fake_server.clock import Clock
from fake_server.transports.inprocess import Target
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.runs.outcome import Body, Outcome, is_failure, outranking
from pytest_claude_tokens.runs.watchdog import Interrupted
from pytest_claude_tokens.runs.workers import Workers
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.network import Network
from pytest_claude_tokens.simulation.schedule import Chooser, Schedule
from pytest_claude_tokens.simulation.thread_record import Stuck
from pytest_claude_tokens.simulation.threads import ACTIVE
from pytest_claude_tokens.simulation.waiter import SimulatedWaiter
from pytest_claude_tokens.simulation.world import World

__all__ = ["Body", "Outcome", "Runner"]

LINGER = 60.0
"""Simulated seconds that open operations have to end in when the body has ended."""


class Runner:
    """Runs one body under any schedule. ``current``: the service that answers right now, for the interceptor."""

    def __init__(self, body: Body, *, record: bool = False) -> None:
        self.body = body
        self._record = record
        self._wanted = {"claude_tokens", "workers"} & set(inspect.signature(body.function).parameters)
        self.current: Target | None = None

    def resolve(self) -> Target | None:
        """For an interceptor that stands around all runs."""
        return self.current

    def run(self, schedule: Schedule, arguments: Mapping[str, Any] | None = None) -> Outcome:
        """One run. Exceptions of the body and violations come back in the outcome; interruptions are raised."""
        collecting = gc.isenabled()
        gc.disable()  # what it finds, and when, depends on all that was made before: two runs would differ
        try:
            return self._run(schedule, arguments)
        finally:
            if collecting:
                gc.enable()  # now, when most of what the run has made is gone
                _collect_the_old()

    def _run(self, schedule: Schedule, arguments: Mapping[str, Any] | None) -> Outcome:
        body = self.body
        chooser = Chooser(schedule, body.workers, record=self._record)
        world = World(chooser, body.workers, schedule.seed)
        waiter = SimulatedWaiter(world, schedule)
        tokens = ClaudeTokens(
            **body.settings,
            clock=Clock(world.wall, kind="virtual"),
            stopwatch=lambda: world.now,
            waiter=waiter,
            namespace="simulated",
            intercept=False,
            ask=world.ask,
            grace=lambda server: None,
        )
        target = Target(tokens.server, waiter, timeouts=False)
        random.seed(schedule.seed)
        before, ACTIVE.world = ACTIVE.world, world
        try:
            tokens.open()
            self.current = target
            crew = self._crew(world, tokens)
            for planned in schedule.planned_faults:
                tokens.server.faults.add(planned.target, planned.fault, skip=planned.position)
            error = self._run_body(world, tokens, crew, waiter, dict(arguments or {}))
            history = tokens.history.taken()
        finally:
            world.stop()
            self.current = None
            ACTIVE.world = before
            tokens.close()
            tokens.server.authority.forget()
            world.forget()
        crew.dismiss()
        if isinstance(error, Stuck):
            error = None
        if error is not None and not is_failure(error):
            raise error
        return Outcome(
            schedule=schedule,
            error=outranking(tokens.to_raise(error), error),
            history=history,
            raced=crew.raced,
            taken=tuple(chooser.taken),
            decisions=chooser.decision,
            options=tuple(chooser.options or ()),
        )

    def _crew(self, world: World, tokens: ClaudeTokens) -> Workers:
        return Workers(world, self.body.workers, tokens.server, simulated_loop=self.body.kind == "tasks")

    def _run_body(
        self, world: World, tokens: ClaudeTokens, crew: Workers, waiter: SimulatedWaiter, arguments: dict[str, Any]
    ) -> BaseException | None:
        ours = {"claude_tokens": tokens, "workers": crew}
        arguments.update({name: ours[name] for name in self._wanted})
        error: BaseException | None = None
        try:
            hosts = self.body.settings.get("hosts", ())
            world.new_network = lambda: Network(tokens.server, waiter, hosts)
            if self.body.kind == "tasks":
                self._run_async(world, tokens, arguments)
            else:
                self._run_sync(world, tokens, arguments)
        except BaseException as raised:
            error = raised
        tokens.finish()
        return error

    def _run_async(self, world: World, tokens: ClaudeTokens, arguments: dict[str, Any]) -> None:
        assert world.new_network is not None
        loop = SimulatedLoop(world, world.new_network())

        async def main() -> None:
            try:
                await self.body.function(**arguments)
            finally:
                until = world.now + LINGER
                while tokens.server.open and world.now < until:
                    await asyncio.sleep(0.5)

        try:
            with _telling_why(world, tokens, loop.pending):
                loop.run(main())
        finally:
            loop.shut()

    def _run_sync(self, world: World, tokens: ClaudeTokens, arguments: dict[str, Any]) -> None:
        with _telling_why(world, tokens, list):
            try:
                self.body.function(**arguments)
            finally:
                until = world.now + LINGER
                while tokens.server.open and world.now < until and not world.stuck:
                    world.sleep(world.root, 0.5)


def _collect_the_old() -> None:
    """What the collector would do by itself, were it not off whenever it counts: a run may have collected the young."""
    for generation in (2, 1):
        if gc.get_count()[generation] > gc.get_threshold()[generation] > 0:
            gc.collect(generation)
            return


@contextmanager
def _telling_why(world: World, tokens: ClaudeTokens, pending: Callable[[], list[str]]) -> Iterator[None]:
    """Note in the journal why nobody could go on: starved, deadlocked, or stuck where we do not see.

    At once: what happens while all is cleared away comes after it.
    """
    journal = tokens.server.journal
    try:
        yield
    except (Stuck, Interrupted):
        world.stuck = True
        raise Stuck from None
    finally:
        if world.stuck:
            if world.starved is not None:
                journal.note("starved", why=world.starved)
            elif not world.stuck_at:
                journal.note("deadlock", waits=pending() + world.waits())
        for name, place in world.stuck_at:
            journal.note("stuck", actor=name, why=f"it waits outside the simulation: {place}")
