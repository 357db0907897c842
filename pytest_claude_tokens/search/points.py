"""Where the threads of a search are preempted: the accesses that have been seen to conflict, the promising ones first.

Each run shows some. First each of them is tried alone, in default order: briefly, then for longer. Then they are
combined, with one another and with other orders and latencies.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.conflicts import CONFLICT, ranked
from pytest_claude_tokens.simulation.schedule import FOR_GOOD, LENGTHS, UNTIL_LEG, Deviation, Latency

if TYPE_CHECKING:
    from random import Random

    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.simulation.conflicts import Point
    from pytest_claude_tokens.simulation.schedule import Schedule

__all__ = ["Points", "preemption"]

_MOST = 3
"""Preemptions in one schedule."""
_MOST_POINTS = 4_000
_FOR_LONGER = 2
"""So much less promising is a longer absence than a shorter one at the same point."""


def preemption(point: Point, length: int = 1) -> Deviation:
    """The deviation that preempts a worker there."""
    worker, place, times = point
    return Deviation(times, "preempt", worker, length, place)


class Points:
    """The points that one search knows, by how promising they are, each to be tried alone.

    Where others could run, a thread first loses its turn for one decision. Where they slept, and later at every point,
    it is away until another's request or reply is under way: who comes later meets it then. In the end it is away until
    the others are through with all that they do.
    """

    def __init__(self) -> None:
        self._known: dict[Point, int] = {}
        self._times: Counter[tuple[int, str]] = Counter()
        self._awake = _Untried()
        self._asleep = _Untried()
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
            if point not in self._known:
                self._times[point[:2]] += 1
            self._known[point] = min(rank, self._known.get(point, rank))
            (self._asleep if late else self._awake).add(point, UNTIL_LEG if late else 1, rank)

    def alone(self, random: Random) -> Deviation | None:
        """The preemption that is to be tried next, with no other deviation; ``None`` where all were tried."""
        self._turn = not self._turn
        for untried in (self._asleep, self._awake) if self._turn else (self._awake, self._asleep):
            tried = untried.pop(random)
            if tried is None:
                continue
            point, length, rank = tried
            if length == 1:
                self._awake.add(point, UNTIL_LEG, rank + _FOR_LONGER)
            elif length == UNTIL_LEG:
                untried.add(point, FOR_GOOD, rank + _FOR_LONGER)
            return preemption(point, length)
        return None

    def among(self, random: Random, schedule: Schedule) -> Schedule:
        """``schedule`` with some preemptions, more promising ones more often."""
        known = list(self._known)
        weights = [(4 if self._known[point] < CONFLICT else 1) / self._times[point[:2]] for point in known]
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


class _Untried:
    """Preemptions that were not tried yet.

    A loop comes to one place again and again, and each time is a point of its own: hundreds where a thread looks at a
    flag until it is set. So it is places that are compared, and each try at a place makes the next one there less
    promising; likewise one by another worker, which mostly does the same there.
    """

    def __init__(self) -> None:
        self._ranks: dict[tuple[Point, int], int] = {}
        self._places: dict[tuple[int, str, int], dict[int, list[Point]]] = {}
        self._tries: Counter[tuple[int, str, int]] = Counter()
        self._anybody: Counter[tuple[str, int]] = Counter()

    def add(self, point: Point, length: int, rank: int) -> None:
        """Another; one that is there already, or was tried, only where it now is more promising."""
        before = self._ranks.get((point, length))
        if before is not None and before <= rank:
            return
        self._ranks[point, length] = rank
        worker, place, _ = point
        ranks = self._places.setdefault((worker, place, length), {})
        ranks.setdefault(rank, []).append(point)
        if before is not None and point in (less := ranks.get(before, [])):
            less.remove(point)

    def pop(self, random: Random) -> tuple[Point, int, int] | None:
        """One of the most promising: the point, for how many decisions, and its rank; ``None`` where all were tried."""
        found: list[tuple[tuple[int, str, int], int]] = []
        lowest = 0
        for place, ranks in self._places.items():
            rank = min((rank for rank, points in ranks.items() if points), default=None)
            if rank is None:
                continue
            level = rank + self._tries[place] + self._anybody[place[1:]]
            if not found or level < lowest:
                found, lowest = [], level
            if level == lowest:
                found.append((place, rank))
        if not found:
            return None
        place, rank = random.choice(found)
        points = self._places[place][rank]
        at = 0 if not self._tries[place] else random.randrange(len(points))
        self._tries[place] += 1
        self._anybody[place[1:]] += 1
        return points.pop(at), place[2], rank
