"""The scheduling strategy of one run: it obeys a schedule.

Every runner asks the same thing: these can run, in the order in which they became ready; this is decision number n;
who goes?
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, TypeVar

from pytest_claude_tokens.simulation.schedule import Deviation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_claude_tokens.simulation.schedule import DeviationKind, Schedule

__all__ = ["CLOCK", "Chooser"]

CLOCK = -2
"""The answer of a chooser: the next timer fires, although something could run."""
_ORDER = ("freeze", "alone", "clock")
"""The kinds of deviation that change the order in which workers go on."""
_NEVER = 1 << 60
"""A decision number that no run reaches."""
_PCT_DECISIONS = 60
"""Change points of ``pct`` lie before this decision. It stands for the length of a run, which is not known yet."""
_CLOCK_PROBABILITY = 0.05
"""The probability with which the random kinds let a timer fire early, at each decision where that is allowed."""

_T = TypeVar("_T")


class Chooser:
    """Obeys one schedule during one run. ``taken`` records each deviation from default order, with length 1.

    No decision before number ``default_until`` deviates from default order. With ``record``, ``options`` collects the
    deviations that were possible at each decision.
    """

    __slots__ = (
        "_begun",
        "_changes",
        "_kind",
        "_priority",
        "_random",
        "_upcoming",
        "deaths",
        "decision",
        "default_until",
        "options",
        "taken",
    )

    def __init__(self, schedule: Schedule, workers: int, *, record: bool = False) -> None:
        self.decision: int = 0
        self.taken: list[Deviation] = []
        self.options: list[tuple[tuple[DeviationKind, int], ...]] | None = [] if record else None
        self.deaths: list[Deviation] = sorted(
            deviation for deviation in schedule.deviations if deviation.what in ("cancel", "kill")
        )
        self._upcoming = sorted((one for one in schedule.deviations if one.what in _ORDER), reverse=True)
        self._begun: list[Deviation] = []
        self._kind = schedule.kind
        self._random = Random(schedule.seed) if schedule.kind != "deviations" else None
        self._priority: dict[int, float] = {}
        self._changes: frozenset[int] = frozenset()
        if self._random is not None and schedule.kind == "pct":
            self._changes = frozenset(
                self._random.randrange(_PCT_DECISIONS) for _ in range(self._random.randrange(1, 4))
            )
            self._priority = {k: self._random.random() for k in range(-1, workers)}
        self.default_until: int = self._upcoming[-1].position if self._upcoming else _NEVER
        if record or self._random is not None:
            self.default_until = 0

    def end(self) -> None:
        """Follow default order from now on."""
        self.default_until = _NEVER
        self.deaths.clear()

    def next(self, candidates: Sequence[_T], timer: bool, worker_of: Callable[[_T], int]) -> int:
        """Make one decision: the index of the chosen one of ``candidates``, or :data:`CLOCK` if ``timer`` allows it.

        ``worker_of`` gives the number of a candidate's worker. It is called only where a deviation is possible: most
        decisions of a search have none, and the calls would cost time.
        """
        if self.decision < self.default_until:
            index = 0
        else:
            index = self.choose([worker_of(one) for one in candidates], timer)
        self.decision += 1
        return index

    def choose(self, ready: Sequence[int], timer: bool) -> int:
        """The index of the chosen one of ``ready``, or :data:`CLOCK`. ``ready``: worker numbers (-1: not a worker)."""
        if self.options is not None:
            others: list[tuple[DeviationKind, int]] = [
                ("alone", target) for target in dict.fromkeys(ready) if target != ready[0]
            ]
            self.options.extend([()] * (self.decision - len(self.options)))  # default order was the only one
            self.options.append((*others, ("clock", 0)) if timer else tuple(others))
        if self._random is not None:
            index = self._choose_at_random(ready, timer)
        else:
            index = self._choose_by_deviations(ready, timer)
        if index == CLOCK:
            self.taken.append(Deviation(self.decision, "clock", 0, 1))
        elif ready[index] != ready[0]:
            self.taken.append(Deviation(self.decision, "alone", ready[index], 1))
        return index

    def _choose_by_deviations(self, ready: Sequence[int], timer: bool) -> int:
        in_force = self._in_force()
        frozen: set[int] = set()
        for deviation in in_force:
            if deviation.what == "clock":
                if timer:
                    return CLOCK
            elif deviation.what == "freeze":
                frozen.add(deviation.target)
            elif (index := _index_of(deviation.target, ready)) is not None:
                return index
        return _first_but(frozen, ready, timer) if frozen else 0

    def _in_force(self) -> list[Deviation]:
        """The deviations in force at this decision. If there are none, ``default_until`` moves to the next one.

        Decisions come in order, so each deviation is looked at when it begins, and then until it ends: the replay of a
        long random run has tens of thousands of them.
        """
        decision, upcoming = self.decision, self._upcoming
        while upcoming and upcoming[-1].position <= decision:
            self._begun.append(upcoming.pop())
        self._begun = [one for one in self._begun if decision < one.position + one.length]
        if not self._begun and self.options is None:
            self.default_until = upcoming[-1].position if upcoming else _NEVER
        return self._begun

    def _choose_at_random(self, ready: Sequence[int], timer: bool) -> int:
        random = self._random
        assert random is not None
        if timer and random.random() < _CLOCK_PROBABILITY:
            return CLOCK
        if self._kind == "walk":
            return ready.index(random.choice(sorted(set(ready))))
        if self.decision in self._changes:
            self._priority[max(ready, key=self._priority_of)] = -random.random()
        return max(range(len(ready)), key=lambda index: (self._priority_of(ready[index]), -index))

    def _priority_of(self, target: int) -> float:
        return self._priority.get(target, 0.0)


def _index_of(worker: int, ready: Sequence[int]) -> int | None:
    """The index of ``worker`` in the queue; for -1, the body, that of -1 itself, else of the first negative number."""
    if worker in ready:
        return ready.index(worker)
    if worker == -1:
        return next((index for index, one in enumerate(ready) if one < 0), None)
    return None


def _first_but(frozen: set[int], ready: Sequence[int], timer: bool) -> int:
    """The first that is not frozen; if all are, the clock where it may move; else the first one."""
    for index, worker in enumerate(ready):
        if worker not in frozen and not (worker < 0 and -1 in frozen):
            return index
    return CLOCK if timer else 0
