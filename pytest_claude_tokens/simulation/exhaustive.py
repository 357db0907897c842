"""Systematic search: every schedule with at most d deviations from stock order, each once.

Delay-bounded in the sense of Emmi, Qadeer and Rakamaric (POPL 2011): a deviation is one decision at which not the first
in line goes, or a timer fires although somebody could run. A schedule whose history equals one already seen, up to
the order of independent steps, is not taken further.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.schedule import STOCK, Fact, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_claude_tokens.campaign import Campaign
    from pytest_claude_tokens.simulation.outcome import Outcome

__all__ = ["enumerate_schedules"]


def enumerate_schedules(run: Callable[[Schedule], Outcome], campaign: Campaign, bound: int) -> None:
    """Run them all, or until one fails; it is then the campaign's failure."""
    queue: deque[Schedule] = deque([STOCK])
    expanded: dict[int, int] = {}
    while queue:
        schedule = queue.popleft()
        outcome = run(schedule)
        if campaign.fails(outcome):
            return
        left = bound - len(schedule.facts)
        shape = outcome.shape()
        if left > expanded.get(shape, 0):
            expanded[shape] = left
            queue.extend(_extensions(schedule, outcome))


def _extensions(schedule: Schedule, outcome: Outcome) -> Iterator[Schedule]:
    """One more deviation, after the last one."""
    after = max((fact.position for fact in schedule.facts), default=-1)
    for position, options in enumerate(outcome.options):
        if position > after:
            for what, target in options:
                yield Schedule(facts=(*schedule.facts, Fact(position, what, target, 1)))
