"""Systematic search: every schedule with at most d deviations from default order, each once.

Delay-bounded in the sense of Emmi, Qadeer and Rakamaric (POPL 2011): a deviation is one decision at which another than
the first in the queue goes on, or a timer fires although something could run. A schedule whose history equals one
already seen, up to the order of independent steps, is not extended.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from pytest_claude_tokens.search.tally import Failure
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.search.tally import Tally

__all__ = ["enumerate_schedules"]


def enumerate_schedules(run: Callable[[Schedule], Outcome], tally: Tally, bound: int) -> Outcome | None:
    """Run all schedules up to the bound, or until one fails; returns the failing outcome. The tally counts the runs."""
    queue: deque[Schedule] = deque([DEFAULT_ORDER])
    expanded: dict[int, int] = {}
    while queue:
        schedule = queue.popleft()
        outcome = run(schedule)
        if tally.count(outcome, partial(Failure, outcome=outcome)):
            return outcome
        left = bound - len(schedule.deviations)
        shape = outcome.shape()
        if left > expanded.get(shape, 0):
            expanded[shape] = left
            queue.extend(_extensions(schedule, outcome))
    return None


def _extensions(schedule: Schedule, outcome: Outcome) -> Iterator[Schedule]:
    """The schedules with one more deviation, after the last one."""
    after = max((deviation.position for deviation in schedule.deviations), default=-1)
    for position, options in enumerate(outcome.options):
        if position > after:
            for what, target in options:
                yield Schedule(deviations=(*schedule.deviations, Deviation(position, what, target, 1)))
