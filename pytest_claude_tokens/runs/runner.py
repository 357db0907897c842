"""One run of a body under one schedule, in a new world with a new service."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import seed
from typing import TYPE_CHECKING, Any

from fake_server.around import around
from fake_server.transports.inprocess import Destination
from fake_server.transports.senders import name_anew
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.handle.runtime import Runtime
from pytest_claude_tokens.handle.search_listener import SearchListener
from pytest_claude_tokens.runs.leftovers import end_threads
from pytest_claude_tokens.runs.outcome import Body, Outcome, call, conclude, is_failure, plan_faults
from pytest_claude_tokens.runs.unscheduled import Unscheduled
from pytest_claude_tokens.runs.watchdog import Interrupted
from pytest_claude_tokens.runs.workers import Workers
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.chooser import Chooser
from pytest_claude_tokens.simulation.internals import rlock_is_owned
from pytest_claude_tokens.simulation.interrupts import INTERRUPT, calls_foreign_code
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.network import Network
from pytest_claude_tokens.simulation.sockets import Wires
from pytest_claude_tokens.simulation.thread_loop import ThreadLoop
from pytest_claude_tokens.simulation.thread_record import Stuck, worker_number
from pytest_claude_tokens.simulation.trio_runs import trio_generator
from pytest_claude_tokens.simulation.waiter import SimulatedWaiter, sleep
from pytest_claude_tokens.simulation.watch import Watch
from pytest_claude_tokens.simulation.witness import attend
from pytest_claude_tokens.simulation.world import World

if TYPE_CHECKING:
    from types import FrameType

    from pytest_claude_tokens.judge.history import History
    from pytest_claude_tokens.simulation.instruments import Instruments
    from pytest_claude_tokens.simulation.schedule import Schedule
    from pytest_claude_tokens.simulation.watch import Step

__all__ = ["Body", "Outcome", "Runner"]

GRACE_PERIOD_SECONDS = 60.0
"""Simulated seconds that open operations have to end after the body has ended, and as many more as the schedule may
hold them up.
"""
_POLL_INTERVAL_SECONDS = 0.5


class Runner:
    """Runs one body under any schedule. ``current``: the service of the present run, for the interceptor."""

    def __init__(self, body: Body, *, record: bool = False) -> None:
        self.body = body
        self._record = record
        self._wanted = body.wanted()
        self.current: Destination | None = None
        self._listener = SearchListener()

    def close(self) -> None:
        """The search is over: nothing listens for it any more."""
        self._listener.close()

    def resolve(self) -> Destination | None:
        """The service of the present run, for an interceptor that is shared by all runs."""
        return self.current

    def run(self, schedule: Schedule, arguments: Mapping[str, Any] | None = None) -> Outcome:
        """One run. Exceptions of the body and violations come back in the outcome; interruptions are raised."""
        collecting = gc.isenabled()
        gc.disable()  # the moment of a collection depends on all earlier runs, and would make two runs differ
        try:
            return self._run(schedule, arguments)
        finally:
            if collecting:
                gc.enable()  # when most objects of the run have been freed already
                _collect_the_old()

    def _run(self, schedule: Schedule, arguments: Mapping[str, Any] | None) -> Outcome:
        INTERRUPT.check()
        run = _Run(self.body, schedule, self._listener, record=self._record)
        seed(schedule.seed)
        name_anew()
        if (generator := trio_generator()) is not None:  # pragma: no branch - whether a test has imported trio
            generator.seed(schedule.seed)
        try:
            error, history = self._simulated(run, schedule, arguments)
        finally:
            # Nothing is simulated any more. The service is closed in real time, since it deletes files. References
            # between the parts are broken last.
            try:
                run.tokens.close()
            finally:
                run.take_apart()
        INTERRUPT.check()
        if isinstance(error, Stuck):  # noted in the history, where the judge finds it
            error = None
        if error is not None and not is_failure(error):
            raise error
        return conclude(
            schedule,
            run.chooser,
            run.tokens,
            history,
            error,
            raced=run.workers.raced,
            waiter=run.waiter,
            slept=run.world.slept,
            steps=run.steps(),
            held=run.world.held,
            unscheduled=run.unscheduled.clients,
            in_real_time=run.world.children is not None and run.world.children.waited,
        )

    def _simulated(
        self, run: _Run, schedule: Schedule, arguments: Mapping[str, Any] | None
    ) -> tuple[BaseException | None, History]:
        """The part of a run in which its world is the active one; returns the body's error, and the history."""
        before, ACTIVE.world = ACTIVE.world, run.world
        try:
            run.tokens.open()
            self.current = run.target
            plan_faults(run.tokens.server, schedule)
            ours = {"claude_tokens": run.tokens, "workers": run.workers}
            error = run.run_body({**(arguments or {}), **{name: ours[name] for name in self._wanted}})
            return error, run.tokens.history.taken()
        finally:
            # First all threads and tasks end, while the world can still run them and the service can still answer. Then
            # requests no longer reach the service, and nothing is simulated any more.
            try:
                end_threads(run.world.stop())
            finally:
                self.current, ACTIVE.world = None, before


class _Run:
    """The parts of one run: a world, the service in it, and its workers."""

    def __init__(self, body: Body, schedule: Schedule, listener: SearchListener, *, record: bool) -> None:
        self._body = body
        self._listener = listener
        self.chooser = Chooser(schedule, body.workers, record=record)
        self.world = World(
            self.chooser,
            body.workers,
            schedule.seed,
            on_death=self._end_worker,
            new_loop=self._new_thread_loop,
            slow=body.slow,
        )
        self._watch: Watch | None = None
        self._end_following: Callable[[], None] | None = None
        if body.instruments is not None and (record or body.instruments.wanted(schedule)):
            self.world.watching = body.instruments.watching
            self.world.follow = partial(self._follow, body.instruments)
            self.world.watch = self._watch = Watch(self.world, schedule, body.instruments.is_tested)
            self._watch.on_spinning = body.instruments.watch_all
        self.waiter = SimulatedWaiter(self.world, schedule)
        self.unscheduled = Unscheduled(self.world)
        runtime = Runtime.simulated(self.world, self.waiter, lender=listener, namer=self.unscheduled)
        self.tokens = ClaudeTokens(**body.settings, runtime=runtime)
        server = self.unscheduled.server = self.tokens.server
        server.crowd = body.workers
        if self._watch is not None:
            self._watch.is_serving = partial(rlock_is_owned, server.lock)
        self.world.last_resort = server.let_go
        self.world.wires = Wires(self.world, self._new_network())
        self.target = Destination(server, self.waiter)
        self.workers = Workers(self.world, body.workers, server, simulated_loop=body.kind == "tasks")
        attend(self.world, server.journal)

    def steps(self) -> list[Step]:
        """What the threads of the run accessed."""
        return [] if self._watch is None else self._watch.steps

    def take_apart(self) -> None:
        """Break the references between the parts, so that they are freed without the collector."""
        self.tokens.server.authority.forget()
        self.unscheduled.server = None
        self.world.release()
        if self._watch is not None:
            self._watch.take_apart()
            self.world.watch = self.world.watching = self.world.follow = None
        self.workers.detach()

    def run_body(self, arguments: dict[str, Any]) -> BaseException | None:
        """Run the body, and let the service finish. Returns the exception that ended the body, if any."""
        error: BaseException | None = None
        try:
            if self._body.kind == "tasks":
                self._run_async(arguments)
            else:
                self._run_sync(arguments)
        except BaseException as raised:
            error = raised
        self.tokens.finish()
        return error

    def _run_async(self, arguments: dict[str, Any]) -> None:
        world, tokens = self.world, self.tokens
        loop = SimulatedLoop(world, self._new_network())

        @calls_foreign_code
        async def main() -> None:
            try:
                await self._body.function(**arguments)
            finally:
                until = world.now + GRACE_PERIOD_SECONDS + world.early
                while tokens.server.open and world.now < until:
                    await sleep(loop, _POLL_INTERVAL_SECONDS)

        try:
            with _noting_why(world, tokens, loop.pending):
                loop.run(main())
        finally:
            loop.shut()

    def _run_sync(self, arguments: dict[str, Any]) -> None:
        world, tokens = self.world, self.tokens
        with _noting_why(world, tokens, list):
            try:
                call(self._body.function, arguments)
            finally:
                if self._end_following is not None:
                    self._end_following()
                until = world.now + GRACE_PERIOD_SECONDS + world.early
                while tokens.server.open and world.now < until and not world.stuck:
                    world.sleep(world.root, _POLL_INTERVAL_SECONDS)

    def _follow(self, instruments: Instruments, frame: FrameType) -> None:
        if self._end_following is None:
            self._end_following = instruments.follow(frame)

    def _new_network(self) -> Network:
        tokens = self.tokens
        return Network(tokens.server, self.waiter, tokens.hosts, own=self._listener.is_own, proxy=tokens.is_proxy)

    def _new_thread_loop(self, world: World) -> ThreadLoop:
        return ThreadLoop(world, self._new_network())

    def _end_worker(self, what: str, number: int) -> None:
        self.workers.end_worker(what, number)


def _collect_the_old() -> None:
    """Run the garbage collector on the older generations if their thresholds are passed.

    CPython does this by itself, but only while the collector is on. It is off during each run, so without this the
    older generations would grow for the whole search.
    """
    for generation in (2, 1):
        if gc.get_count()[generation] > gc.get_threshold()[generation] > 0:
            gc.collect(generation)
            return


@around
def _noting_why(world: World, tokens: ClaudeTokens, pending: Callable[[], list[str]]) -> Iterator[None]:
    """Note in the journal why nothing could go on: starved, deadlocked, or stuck outside the simulation.

    It must be noted before the world is stopped, whose cleanup adds events: the journal is in the order of events.
    """
    journal = tokens.server.journal
    try:
        yield
    except BaseException as error:
        # A run of trio in which nothing could go on has ended by its own means, so as a cancellation.
        if not isinstance(error, Stuck | Interrupted) and not (world.stuck and type(error).__module__[:4] == "trio"):
            raise
        world.stuck = True
        raise Stuck from None
    finally:
        if world.stuck:
            if world.starved is not None:
                workers = [one for one in pending() if worker_number(one.partition(" ")[0]) >= 0] + world.places()
                places = [", ".join(workers)] if workers else []
                journal.note("starved", why=": ".join((*places, world.starved)))
            elif not world.stuck_at:
                journal.note("deadlock", waits=world.waits() + pending())
        for name, place in world.stuck_at:
            journal.note("stuck", actor=name, why=f"it waits outside the simulation: {place}")
