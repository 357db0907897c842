"""Random orders: who goes on at each decision where the schedule names a strategy instead of deviations.

Each is a class with one method, ``pick``, whose every choice comes from a generator that is seeded by the schedule.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_claude_tokens.simulation.schedule import Schedule

__all__ = ["CLOCK", "Order", "Paced", "Priorities", "Walk", "order_of"]

CLOCK = -2
"""The answer of a chooser: the next timer fires, although something could run."""
_PCT_DECISIONS = 60
"""Change points of ``pct`` lie before this decision, unless the schedule knows how long a run is."""
_CLOCK_PROBABILITY = 0.05
"""The probability with which ``pct`` and ``walk`` let a timer fire early, at each decision where that is allowed."""


class Order(Protocol):
    """Makes decisions. ``ready``: the worker numbers of what can run (negative: no worker's), first come first."""

    def pick(self, decision: int, ready: Sequence[int], now: float, when: float | None) -> int:
        """The index of the chosen one, or :data:`CLOCK` for the next timer, which is due at ``when``.

        ``when`` is ``None`` where no timer may fire.
        """


class Walk:
    """A uniform choice among workers at each decision."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def pick(self, decision: int, ready: Sequence[int], now: float, when: float | None) -> int:
        """See :class:`Order`."""
        random = self._random
        if when is not None and random.random() < _CLOCK_PROBABILITY:
            return CLOCK
        return ready.index(random.choice(sorted(set(ready))))


class Priorities:
    """PCT: random priorities, with a few decisions at which the running worker's falls below all others.

    Burckhardt et al., A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs, ASPLOS 2010, section 2.2.
    """

    def __init__(self, random: Random, workers: int, decisions: int) -> None:
        self._random = random
        self._changes = frozenset(random.randrange(decisions) for _ in range(random.randrange(1, 4)))
        self._priority = {k: random.random() for k in range(-1, workers)}

    def pick(self, decision: int, ready: Sequence[int], now: float, when: float | None) -> int:
        """See :class:`Order`."""
        random = self._random
        if when is not None and random.random() < _CLOCK_PROBABILITY:
            return CLOCK
        if decision in self._changes:
            self._priority[max(ready, key=self._priority_of)] = -random.random()
        return max(range(len(ready)), key=lambda index: (self._priority_of(ready[index]), -index))

    def _priority_of(self, target: int) -> float:
        return self._priority.get(target, 0.0)


class Paced:
    """Each worker takes time for its steps, as on a machine with a processor for each of them.

    Default order lets a step take no time, so that a worker that arrives late never meets another between two steps.
    Here a worker that can run is not due before its step has taken a random time, of ``seconds`` on average; whoever is
    due first goes on, or the next timer fires. Half of the runs are paced evenly, each worker at a speed of its own; in
    the other half steps take no time, but for a few random ones among the first ``reach`` of random workers.
    """

    def __init__(self, random: Random, workers: int, seconds: float, reach: int) -> None:
        self._random = random
        self._at = 0.0
        self._due: dict[int, float] = {}
        self._steps: dict[int, int] = {}
        self._stalls: dict[tuple[int, int], float] | None = None
        self._speed: dict[int, float] = {}
        self._seconds = seconds
        if random.random() < 0.5:
            self._speed = {k: seconds * 10 ** random.uniform(-1.5, 0) for k in range(-1, workers)}
        else:
            self._stalls = {
                (random.randrange(workers), random.randrange(reach)): seconds * 10 ** random.uniform(-0.7, 0.5)
                for _ in range(random.randrange(1, 4))
            }

    def pick(self, decision: int, ready: Sequence[int], now: float, when: float | None) -> int:
        """See :class:`Order`."""
        due = self._due
        at = self._at = max(self._at, now)
        for worker in dict.fromkeys(ready):
            if worker not in due:
                due[worker] = at + self._takes(worker)
        index = min(range(len(ready)), key=lambda index: due[ready[index]])
        until = due[ready[index]]
        if when is not None and when <= until:
            self._at = max(at, when)
            return CLOCK
        del due[ready[index]]
        self._at = max(at, until)
        return index

    def _takes(self, worker: int) -> float:
        if self._stalls is None:
            mean = self._speed.get(worker, 0.0)
            return self._random.expovariate(1 / mean) if mean else 0.0
        step = self._steps.get(worker, 0)
        self._steps[worker] = step + 1
        return self._stalls.get((worker, step), 0.0)


def order_of(schedule: Schedule, workers: int) -> Order | None:
    """The random order that the schedule names, if it names one."""
    if schedule.kind == "deviations":
        return None
    random = Random(schedule.seed)
    if schedule.kind == "walk":
        return Walk(random)
    if schedule.kind == "pct":
        return Priorities(random, workers, schedule.reach or _PCT_DECISIONS)
    return Paced(random, workers, schedule.scale / 1000, schedule.reach or 1)
