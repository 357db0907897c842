"""Systematic search: every schedule with at most d deviations from default order, each once.

Delay-bounded in the sense of Emmi, Qadeer and Rakamaric (POPL 2011): a deviation is one decision at which another than
the first in the queue goes on, a timer that fires although something could run, or a thread that is preempted before an
access that conflicts with another thread's. A schedule whose history equals one already seen, up to the order of
independent steps, is not extended. An access that turns out to conflict only in a later run is tried in the earlier
ones, too.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from pytest_claude_tokens.search.points import preemption
from pytest_claude_tokens.search.tally import Failure
from pytest_claude_tokens.simulation.conflicts import points
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.search.tally import Tally

__all__ = ["enumerate_schedules"]


def enumerate_schedules(run: Callable[[Schedule], Outcome], tally: Tally, bound: int) -> Outcome | None:
    """Run all schedules up to the bound, or until one fails; returns the failing outcome. The tally counts the runs."""
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
            queue.extend(_extensions(schedule, outcome))
            if outcome.steps:
                parents.append(outcome)
                queue.extend(_preempted(outcome, places))
    return None


def _extensions(schedule: Schedule, outcome: Outcome) -> Iterator[Schedule]:
    """The schedules with one more deviation, after the last one, at a decision."""
    after = _last_decision(schedule)
    preempted = {step.decision: step.worker for step in outcome.steps if not step.touched}
    for position, options in enumerate(outcome.options):
        if position > after and position >= max(preempted, default=0):
            for what, target in options:
                if preempted.get(position) != target:  # it would get its turn back at once
                    yield Schedule(deviations=(*schedule.deviations, Deviation(position, what, target, 1)))


def _preempted(outcome: Outcome, places: Collection[str]) -> Iterator[Schedule]:
    """The schedules with one more deviation, after the last one, that preempts a thread at one of these places."""
    schedule = outcome.schedule
    after, seen = _last_decision(schedule), set()
    last = max((number for number, step in enumerate(outcome.steps) if not step.touched), default=-1)
    for step in outcome.steps[last + 1 :]:
        point = (step.worker, step.access.place, step.times)
        if step.others and step.decision > after and step.access.place in places and point not in seen:
            seen.add(point)
            yield Schedule(deviations=(*schedule.deviations, preemption(point)))


def _last_decision(schedule: Schedule) -> int:
    return max((deviation.position for deviation in schedule.deviations if deviation.what != "preempt"), default=-1)
