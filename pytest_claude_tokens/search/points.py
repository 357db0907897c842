"""Where the threads of a search are preempted: the accesses that have been seen to conflict, the promising ones first.

Each run shows some. First each of them is tried alone, in default order: briefly, then for longer. Then they are
combined, with one another and with other orders and latencies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.conflicts import BETWEEN, CONFLICT, UNNAMED, ranked
from pytest_claude_tokens.simulation.schedule import LENGTHS, UNTIL_LEG, Deviation, Latency

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
    """The points that one search knows, by how promising they are, each to be tried alone.

    Where others could run, a thread first loses its turn for one decision. Where they slept, and in the end at every
    point, it is away until another's request or reply is under way: who comes later meets it then.
    """

    def __init__(self) -> None:
        self._known: dict[Point, int] = {}
        self._ranks: dict[tuple[Point, bool], int] = {}
        self._untried: dict[tuple[bool, int], list[Point]] = {}
        self._tried: list[Point] = []
        self._turn = False

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, outcome: Outcome) -> None:
        """Take note of the accesses of a run."""
        if not outcome.steps or len(self._known) >= _MOST_POINTS:
            return
        asleep = outcome.schedule.kind == "deviations" and outcome.schedule.latency == Latency()
        for (point, late), rank in ranked(outcome.steps).items():
            if late and not asleep:  # the others wait for their replies, or for what the order has made of their steps
                continue
            self._known[point] = min(rank, self._known.get(point, rank))
            if rank < self._ranks.get((point, late), rank + 1):
                self._ranks[point, late] = rank
                self._untried.setdefault((late, rank), []).append(point)

    def alone(self, random: Random) -> Deviation | None:
        """The preemption that is to be tried next, with no other deviation; ``None`` where all were tried."""
        self._turn = not self._turn
        for late in (not self._turn, self._turn):
            point = self._most_promising(random, late=late)
            if point is None:
                continue
            if late:
                return preemption(point, UNTIL_LEG)
            self._tried.append(point)
            return preemption(point)
        return preemption(self._tried.pop(0), UNTIL_LEG) if self._tried else None

    def _most_promising(self, random: Random, *, late: bool) -> Point | None:
        for rank in (BETWEEN, CONFLICT, UNNAMED):
            untried = self._untried.get((late, rank), [])
            while untried:
                point = untried.pop(random.randrange(len(untried)))
                if self._ranks[point, late] == rank:
                    return point
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
