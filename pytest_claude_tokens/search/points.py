"""Where the threads of a search are preempted: the accesses that have been seen to conflict, the promising ones first.

Each run shows some. First each of them is tried alone, in default order; then they are combined, with one another and
with other orders and latencies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.conflicts import CONFLICT, points
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, LENGTHS, Deviation

if TYPE_CHECKING:
    from random import Random

    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.simulation.conflicts import Point
    from pytest_claude_tokens.simulation.schedule import Schedule

__all__ = ["Points", "preemption"]

_MOST = 3
"""Preemptions in one schedule."""
_MOST_POINTS = 4_000


def preemption(point: Point, length: int = 1) -> Deviation:
    """The deviation that preempts a worker there."""
    worker, place, times = point
    return Deviation(times, "preempt", worker, length, place)


class Points:
    """The points that one search knows. ``tried``: how many of them have been tried alone."""

    def __init__(self) -> None:
        self._known: dict[Point, int] = {}
        self._fresh: dict[int, list[Point]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, outcome: Outcome) -> None:
        """Take note of the accesses of a run."""
        if not outcome.steps or len(self._known) >= _MOST_POINTS:
            return
        for point, rank in points(outcome.steps).items():
            before = self._known.get(point)
            if before is None or rank < before:
                self._known[point] = rank
                self._fresh.setdefault(rank, []).append(point)

    def alone(self, random: Random) -> Schedule | None:
        """A point that has not been tried yet, in default order; ``None`` where there is none."""
        for rank in sorted(self._fresh):
            fresh = self._fresh[rank]
            while fresh:
                point = fresh.pop(random.randrange(len(fresh)))
                if self._known[point] == rank:
                    return replace(DEFAULT_ORDER, deviations=(preemption(point),))
        return None

    def among(self, random: Random, schedule: Schedule) -> Schedule:
        """``schedule`` with some preemptions, more promising ones more often."""
        known = list(self._known)
        weights = [4 if self._known[point] < CONFLICT else 1 for point in known]
        chosen = dict.fromkeys(random.choices(known, weights, k=random.randint(1, _MOST)))
        return replace(
            schedule,
            deviations=(
                *schedule.deviations,
                *(preemption(point, _length(random, schedule)) for point in chosen),
            ),
        )


def _length(random: Random, schedule: Schedule) -> int:
    """For how many decisions a worker stays away: a random order decides that by itself."""
    return 1 if schedule.kind != "deviations" or random.random() < 0.5 else random.choice(LENGTHS)
