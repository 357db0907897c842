"""Random orders: who goes on at each decision where the schedule names a strategy instead of deviations.

Each is a class with one method, ``pick``, whose every choice comes from a generator that is seeded by the schedule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_claude_tokens.simulation.schedule import Schedule

__all__ = ["CLOCK", "Interrupts", "Order", "Paced", "PartialOrder", "Priorities", "Walk", "order_of"]

CLOCK = -2
"""The answer of a chooser: the next timer fires, although something could run."""
_DECISIONS = 60
"""How many decisions a run has, unless the schedule knows."""
_SLOW_STEPS = 0.3
"""The share of steps that take time in a paced run."""
_LEGS = 6
"""How many legs of requests are interesting: the first ones."""
_CLOCK_PROBABILITY = 0.05
"""The probability with which ``pct``, ``pos`` and ``walk`` let a timer fire early, at each decision where it may."""
_TIME = 1 << 30
"""The number under which time has a priority, as if it were a worker."""


class Interrupts:
    """The steps at which a worker is interrupted: half of them a few steps after a request or a reply.

    There a dispatcher writes down what it was given and lets its locks go, so that is where most races are decided.
    """

    def __init__(self, random: Random, workers: int, legs: int, steps: int) -> None:
        self._steps: dict[int, int] = {}
        self._armed: dict[int, int] = {}
        self._after_leg: dict[int, int] = {}
        self._at: set[tuple[int, int]] = set()
        for _ in range(random.randrange(1, 4)):
            if random.random() < 0.5:
                self._after_leg[random.randrange(legs)] = random.randrange(1, 8)
            else:
                self._at.add((random.randrange(workers), random.randrange(steps)))

    def note_leg(self, leg: int, worker: int) -> None:
        """A leg of this worker's begins."""
        if leg in self._after_leg:
            self._armed[worker] = self._after_leg[leg]

    def due(self, worker: int) -> bool:
        """Whether the worker is interrupted before its next step; counts the steps."""
        step = self._steps.get(worker, 0)
        self._steps[worker] = step + 1
        if worker in self._armed:
            self._armed[worker] -= 1
            if not self._armed[worker]:
                del self._armed[worker]
                return True
        return (worker, step) in self._at


class Order(ABC):
    """Makes decisions. ``ready``: the worker numbers of what can run (negative: no worker's), first come first.

    ``interrupts``: steps before which a worker loses its turn.
    """

    def __init__(self, random: Random, interrupts: Interrupts | None = None) -> None:
        self._random = random
        self._interrupts = interrupts

    @abstractmethod
    def pick(self, decision: int, ready: Sequence[int], now: float, when: float | None) -> int:
        """The index of the chosen one, or :data:`CLOCK` for the next timer, which is due at ``when``.

        ``when`` is ``None`` where no timer may fire.
        """

    def note_leg(self, leg: int, worker: int) -> None:
        """Take note that a request or reply of this worker begins its way, leg number ``leg`` of the run."""
        if self._interrupts is not None:
            self._interrupts.note_leg(leg, worker)


class Walk(Order):
    """A uniform choice among workers at each decision."""

    def pick(self, decision: int, ready: Sequence[int], now: float, when: float | None) -> int:
        """See :class:`Order`."""
        random = self._random
        if when is not None and random.random() < _CLOCK_PROBABILITY:
            return CLOCK
        workers = sorted(set(ready))
        return ready.index(workers[int(random.random() * len(workers))])


class PartialOrder(Order):
    """Partial-order sampling: each step has a priority of its own, drawn when its worker comes to it; the highest goes.

    Yuan, Yang and Gu, Partial Order Aware Concurrency Sampling, CAV 2018, section 3.2: a walk gives most of its
    chances to orders of steps that have nothing to do with each other, and keeps nobody waiting for long. Here, who
    waits keeps its priority until a step has been taken that its own may race with: one that sends a request or a
    reply. What a step will touch is not known before it is taken, so that then all who wait draw anew.
    """

    def __init__(self, random: Random, *, clock: bool = False) -> None:
        super().__init__(random)
        self._clock = clock
        self._pending: dict[int, float] = {}

    def pick(self, decision: int, ready: Sequence[int], now: float, when: float | None) -> int:
        """See :class:`Order`."""
        pending, random = self._pending, self._random.random
        if not self._clock and when is not None and random() < _CLOCK_PROBABILITY:
            return CLOCK
        waiting = [*ready, _TIME] if self._clock and when is not None else ready
        for worker in waiting:
            if worker not in pending:
                pending[worker] = random()
        chosen = max(waiting, key=pending.__getitem__)
        del pending[chosen]
        return CLOCK if chosen == _TIME else ready.index(chosen)

    def note_leg(self, leg: int, worker: int) -> None:
        """See :class:`Order`."""
        self._pending.clear()


class Priorities(Order):
    """PCT: random priorities, with a few steps at which the running worker's falls below all others.

    Burckhardt et al., A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs, ASPLOS 2010, section 2.2.
    ``interrupts`` stand in for change points among the first ``decisions``. With ``clock`` time has a priority, too, as
    if it were a worker; otherwise timers are early now and then.
    """

    def __init__(
        self, random: Random, workers: int, decisions: int, interrupts: Interrupts | None = None, *, clock: bool = False
    ) -> None:
        super().__init__(random, interrupts)
        number = random.randrange(1, 4) if interrupts is None else 0
        self._changes = frozenset(random.randrange(decisions) for _ in range(number))
        self._priority = {k: random.random() for k in range(-1, workers)}
        self._clock = random.random() if clock else None

    def pick(self, decision: int, ready: Sequence[int], now: float, when: float | None) -> int:
        """See :class:`Order`."""
        if self._clock is None and when is not None and self._random.random() < _CLOCK_PROBABILITY:
            return CLOCK
        index = self._highest(ready, when)
        if decision in self._changes or (
            index != CLOCK and self._interrupts is not None and self._interrupts.due(ready[index])
        ):
            if index == CLOCK:
                self._clock = -self._random.random()
            else:
                self._priority[ready[index]] = -self._random.random()
            index = self._highest(ready, when)
        return index

    def _highest(self, ready: Sequence[int], when: float | None) -> int:
        priority_of = self._priority.get
        priorities = [priority_of(worker, 0.0) for worker in ready]
        highest = max(priorities)
        if self._clock is not None and when is not None and self._clock > highest:
            return CLOCK
        return priorities.index(highest)


class Paced(Order):
    """Each worker takes time for its steps, as on a machine with a processor for each of them.

    Default order lets a step take no time, so that a worker that arrives late never meets another between two steps.
    Here a worker that can run is not due before its step has taken a random time; whoever is due first goes on, or the
    next timer fires. Most steps take no time: only those of ``interrupts``, or without these a random third, take up to
    ``seconds``, and each worker is slow in its own way.
    """

    def __init__(self, random: Random, workers: int, seconds: float, interrupts: Interrupts | None = None) -> None:
        super().__init__(random, interrupts)
        self._slow: dict[int, float] = {}
        self._at = 0.0
        self._due: dict[int, float] = {}
        self._seconds = seconds
        self._speed = {k: 10 ** random.uniform(-1.5, 0) for k in range(-1, workers)}

    def pick(self, decision: int, ready: Sequence[int], now: float, when: float | None) -> int:
        """See :class:`Order`."""
        due = self._due
        at = self._at = max(self._at, now)
        for worker in dict.fromkeys(ready):
            if worker not in due:
                due[worker] = at + self._takes(worker)
        until = min([due[worker] for worker in ready])
        index = next(index for index, worker in enumerate(ready) if due[worker] == until)
        if when is not None and when <= until:
            self._at = max(at, when)
            return CLOCK
        del due[ready[index]]
        self._at = max(at, until)
        return index

    def seconds_late(self, worker: int, now: float) -> float:
        """How long the worker's next step takes: what the timers that fired before it have left of its time."""
        return max(0.0, self._slow.pop(worker, 0.0) - now)

    def _takes(self, worker: int) -> float:
        random = self._random
        if self._interrupts is not None:
            if not self._interrupts.due(worker):
                return 0.0
            seconds = self._seconds * 10 ** random.uniform(-0.7, 0.5)
        elif random.random() < _SLOW_STEPS:
            seconds = self._seconds * self._speed.get(worker, 0.0) * random.random()
        else:
            return 0.0
        self._slow[worker] = self._at + seconds
        return seconds


def order_of(schedule: Schedule, workers: int) -> Order | None:
    """The random order that the schedule names, if it names one."""
    if schedule.kind == "deviations":
        return None
    random = Random(schedule.seed)
    if schedule.kind == "walk":
        return Walk(random)
    if schedule.kind == "pos":
        return PartialOrder(random, clock=random.random() < 0.5)
    decisions = schedule.reach or _DECISIONS
    interrupts = None
    if random.random() < 0.5:
        interrupts = Interrupts(random, workers, _LEGS, max(1, decisions // workers))
    if schedule.kind == "pct":
        return Priorities(random, workers, decisions, interrupts, clock=random.random() < 0.5)
    return Paced(random, workers, schedule.scale / 1000, interrupts)
