"""Systematic search: every schedule with at most d deviations from default order, each once.

Delay-bounded in the sense of Emmi, Qadeer and Rakamaric (POPL 2011): a deviation is one decision at which another than
the first in the queue goes on, a timer that fires although something could run, or a thread that is preempted before an
access that conflicts with another thread's. Where the body waits for time to pass, a leg of a request that takes all
the time that there is, and a worker that is suspended for as long, are one each. A schedule whose history equals one
already seen, up to the order of independent steps, is not extended. An access that turns out to conflict only in a
later run is tried in the earlier ones, too.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from pytest_claude_tokens.search.points import preemption
from pytest_claude_tokens.search.tally import Failure
from pytest_claude_tokens.simulation.conflicts import points
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, FOR_GOOD, Deviation, Schedule
from pytest_claude_tokens.simulation.scheduler import SLOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.search.tally import Tally

__all__ = ["enumerate_schedules"]


def enumerate_schedules(
    run: Callable[[Schedule], Outcome], tally: Tally, bound: int, slow: float = SLOW_SECONDS
) -> Outcome | None:
    """Run all schedules up to the bound, or until one fails; returns the failing outcome. The tally counts the runs.

    ``slow``: the seconds for which something may be held up.
    """
    queue: deque[Schedule] = deque([DEFAULT_ORDER])
    expanded: dict[int, int] = {}
    parents: list[Outcome] = []
    places: set[str] = set()
    while queue:
        schedule = queue.popleft()
        outcome = run(schedule)
        if tally.count(outcome, partial(Failure, outcome=outcome)):
            return outcome
        fresh = {place for _, place, _ in points(outcome.steps)} - places
        if fresh:
            places |= fresh
            for parent in parents:
                queue.extend(_preempted(parent, fresh))
        left = bound - len(schedule.deviations)
        shape = outcome.shape()
        if left > expanded.get(shape, 0):
            expanded[shape] = left
            queue.extend(_extensions(schedule, outcome, int(1000 * slow)))
            if outcome.steps:
                parents.append(outcome)
                queue.extend(_preempted(outcome, places))
    return None


def _extensions(schedule: Schedule, outcome: Outcome, milliseconds: int = 0) -> Iterator[Schedule]:
    """The schedules with one more deviation, after the last one, but for those that preempt a thread."""
    for deviation in _next_deviations(outcome, milliseconds):
        yield Schedule(deviations=(*schedule.deviations, deviation))


def _next_deviations(outcome: Outcome, milliseconds: int) -> Iterator[Deviation]:
    decision, leg = outcome.departed()
    preempted = {step.decision: step.worker for step in outcome.steps if not step.touched}
    for position in range(decision, len(outcome.options)):
        for what, target in outcome.options[position]:
            if preempted.get(position) != target:  # else it would get its turn back at once
                yield Deviation(position, what, target, 1)
    if not milliseconds or not outcome.timed:
        return
    for position in range(leg, len(outcome.legs_begun)):
        yield Deviation(position, "slow", 0, milliseconds)
    for position, target in outcome.suspendable:
        if position >= decision:
            yield Deviation(position, "freeze", target, FOR_GOOD)


def _preempted(outcome: Outcome, places: Collection[str]) -> Iterator[Schedule]:
    """The schedules with one more deviation, after the last one, that preempts a thread at one of these places."""
    schedule, (decision, _), seen = outcome.schedule, outcome.departed(), set()
    last = max((number for number, step in enumerate(outcome.steps) if not step.touched), default=-1)
    for step in outcome.steps[last + 1 :]:
        point = (step.worker, step.access.place, step.times)
        if step.others and step.decision >= decision and step.access.place in places and point not in seen:
            seen.add(point)
            yield Schedule(deviations=(*schedule.deviations, preemption(point)))
