"""Small worlds for tests: a body as tasks or as threads, under any schedule, with nothing around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
from hypothesis import strategies as st

from fake_server.events import Event
from fake_server.transports.inprocess import Interceptor, shared_ssl_context
from pytest_claude_tokens.guard import guard
from pytest_claude_tokens.runs.outcome import Body, Outcome
from pytest_claude_tokens.runs.runner import Runner
from pytest_claude_tokens.runs.watchdog import Watchdog
from pytest_claude_tokens.runs.workers import Workers
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.chooser import Chooser
from pytest_claude_tokens.simulation.files import switching_at_files
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.patches import patched
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, LENGTHS, Deviation, Schedule
from pytest_claude_tokens.simulation.thread_loop import ThreadLoop
from pytest_claude_tokens.simulation.thread_record import Stuck
from pytest_claude_tokens.simulation.trio_runs import trio_simulated
from pytest_claude_tokens.simulation.world import World
from tests.zoo.common import HELLO_URL

ALWAYS_CLOCK = Schedule(deviations=(Deviation(0, "clock", 0, 10_000),))

MADE: dict[int, list[Workers]] = {}
"""By the serial number of a world: the workers made in it, of which the schedule ends those made last."""


@contextmanager
def stage() -> Iterator[None]:
    """What stands around the runs of a search."""
    with ExitStack() as stack:
        guard.install()
        stack.enter_context(shared_ssl_context())
        stack.enter_context(Watchdog())
        stack.enter_context(patched())
        stack.enter_context(trio_simulated())
        stack.enter_context(switching_at_files())
        yield


@contextmanager
def world(schedule: Schedule = DEFAULT_ORDER, workers: int = 4, *, record: bool = False) -> Iterator[World]:
    """A world of which the calling thread is the root."""
    made: list[Workers] = []
    new = World(
        Chooser(schedule, workers, record=record),
        workers,
        schedule.seed,
        on_death=lambda what, number: made[-1].end_worker(what, number) if made else None,
        new_loop=ThreadLoop,
    )
    MADE[new.serial] = made
    before, ACTIVE.world = ACTIVE.world, new
    try:
        yield new
    finally:
        new.stop()
        ACTIVE.world = before
        del MADE[new.serial]


def run_tasks(body: Callable[[], Any], schedule: Schedule = DEFAULT_ORDER) -> Any:
    """What ``body`` returns, on a simulated loop."""
    with world(schedule) as new:
        loop = SimulatedLoop(new)
        try:
            return loop.run(body())
        except Stuck as error:  # no Exception, so Hypothesis would let it through
            raise AssertionError(f"stuck: {new.starved or loop.pending()}") from error
        finally:
            loop.shut()


def run_threads(
    *jobs: Callable[[], Any], schedule: Schedule = DEFAULT_ORDER, first: Callable[[], Any] | None = None
) -> Any:
    """What the jobs return, each in a thread w0, w1 …; ``first`` is called before them, in the same world."""
    with world(schedule, len(jobs)) as new:
        if first is not None:
            first()
        return workers_of(new, len(jobs), simulated_loop=False)(*jobs)


def workers_of(new: World, size: int, *, simulated_loop: bool) -> Workers:
    """Workers of a service that nobody asks, and whose journal nobody reads."""
    journal: Any = SimpleNamespace(observers=[], note=lambda what, **deviations: None)
    server: Any = SimpleNamespace(journal=journal, abandon=lambda actor, error: None)
    workers = Workers(new, size, server, simulated_loop=simulated_loop)
    MADE[new.serial].append(workers)
    return workers


@contextmanager
def explored(function: Callable[..., Any], workers: int = 2, *, record: bool = False, **settings: Any) -> Iterator[Any]:
    """Gives a function from schedules to outcomes of the body, with the service."""
    runner = Runner(Body(function=function, workers=workers, settings=settings), record=record)
    with closing(runner), Interceptor(runner.resolve, hosts=settings.get("hosts", ())):
        yield runner.run


def outcome_of(
    function: Callable[..., Any], schedule: Schedule = DEFAULT_ORDER, workers: int = 2, **settings: Any
) -> Outcome:
    """One run of a body with the service."""
    with explored(function, workers, **settings) as run:
        outcome: Outcome = run(schedule)
        return outcome


def schedules(workers: int = 3) -> st.SearchStrategy[Schedule]:
    """Any order, and any move of the clock."""
    deviations = st.builds(
        Deviation,
        st.integers(0, 40),
        st.sampled_from(["freeze", "alone", "clock"]),
        st.integers(-1, workers - 1),
        st.sampled_from(LENGTHS),
    )
    return st.builds(
        Schedule,
        kind=st.sampled_from(["deviations", "deviations", "pct", "walk"]),
        deviations=st.lists(deviations, max_size=4).map(tuple),
        seed=st.integers(0, 9999),
    )


def put_in(box: list[Any], factory: Callable[[], Any]) -> None:
    """Make something in a world that a test has no other way into: as ``first`` of :func:`run_threads`."""
    box[0] = factory()


def start(coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """A task that nobody keeps: the loop does."""
    return asyncio.create_task(coroutine, **options)


def tried(body: Callable[..., Any], schedule: Schedule = DEFAULT_ORDER, workers: int = 2, **options: Any) -> Outcome:
    """The outcome of a body that must not fail."""
    outcome = outcome_of(body, schedule, workers, **options)
    if outcome.error is not None:
        raise outcome.error
    return outcome


def ends(outcome: Outcome, kind: str | None = None) -> list[Event]:
    """How the requests of a run ended; those of one kind, if it is named."""
    return [event for event in outcome.history if event.type in ("ok", "fail", "info") and kind in (None, event.f)]


async def ask() -> None:
    """A request that needs no bearer, by a client that waits for ever."""
    async with httpx.AsyncClient(timeout=None) as client:
        await client.get(HELLO_URL)


def notes(outcome: Outcome, what: str) -> list[Event]:
    """The notes of a run that say this."""
    return [event for event in outcome.history if event.f == what]
