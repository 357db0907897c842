"""Threads whose accesses are watched, with no service around them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from pytest_claude_tokens.simulation.accesses import Access, accesses_of
from pytest_claude_tokens.simulation.instruments import Instruments
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
from pytest_claude_tokens.simulation.tested_code import TestedCode
from pytest_claude_tokens.simulation.watch import Step, Watch
from tests.unit.simulation.worlds import workers_of, world


def watched(
    *jobs: Callable[[], Any],
    schedule: Schedule = DEFAULT_ORDER,
    instruments: Instruments | None = None,
    is_serving: Callable[[], bool] = lambda: False,
) -> list[Step]:
    """What the jobs access, each in a thread w0, w1 …"""
    instruments = instruments or Instruments(TestedCode())
    with instruments.installed(), world(schedule, len(jobs)) as new:
        watch = Watch(new, schedule, instruments.is_tested, is_serving, instruments.watch_all)
        new.watch, new.watching = watch, instruments.watching
        try:
            workers_of(new, len(jobs), simulated_loop=False)(*jobs)
        finally:
            new.watch = None
    return [step for step in watch.steps if not step.access.place.startswith("thread_events.py")]


def an_access() -> Access:
    """The write of a local name ``box``'s number."""
    box: Any = None

    def job() -> None:
        box.number = 1

    return next(one for one in accesses_of(job.__code__).values() if one.kind == "attribute")


def arrivals(schedule: Schedule, *arrive: Callable[[Watch], None]) -> tuple[Watch, list[int]]:
    """A run whose threads arrive by hand."""
    order: list[int] = []
    with world(schedule, len(arrive)) as new:
        watch = Watch(new, schedule, lambda code: False)

        def job(number: int) -> None:
            arrive[number](watch)
            order.append(number)

        workers_of(new, len(arrive), simulated_loop=False)(*[lambda n=n: job(n) for n in range(len(arrive))])
    return watch, order


def told(steps: list[Step]) -> list[str]:
    """Each access in a word or two: who, what it is, of what, and ``=`` where it writes."""
    return [
        f"w{step.worker} {what} {'any' if owner is None else owner if isinstance(owner, str) else owner[1]}"
        f"{'' if key == '*' else f' {key}'}{'=' if write else ''}"
        for step in steps
        for owner, what, key, write in step.touched
    ]


def before(line: str, worker: int = 0, times: int = 0, *, among: list[Step], kind: str | None = None) -> Schedule:
    """The schedule that preempts a worker before the access whose words end like this."""
    places = {
        step.access.place for step in among if step.access.words.endswith(line) and kind in (None, step.access.kind)
    }
    (place,) = places
    return Schedule(deviations=(Deviation(times, "preempt", worker, 1, place),))


@contextmanager
def traced(trace: Any):
    """New threads are traced like this, as by coverage."""
    import threading

    was = threading.gettrace()
    threading.settrace(trace)
    try:
        yield
    finally:
        threading.settrace(was)
