"""The scheduling strategy of one run: it obeys a schedule.

Every runner asks the same thing: these can run, in the order in which they became ready; this is decision number n;
who goes?
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pytest_claude_tokens.simulation.orders import CLOCK, Paced, order_of
from pytest_claude_tokens.simulation.schedule import Deviation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_claude_tokens.simulation.schedule import DeviationKind, Schedule

__all__ = ["CLOCK", "Chooser"]

_ORDER = ("freeze", "alone", "clock")
"""The kinds of deviation that change the order in which workers go on."""
_MOST_LOOKS = 40
"""Decisions without progress, while time passes, up to which deviations are recorded as possible. Who only looks again
and again can be interrupted at any of them, and it makes no difference.
"""
_NEVER = 1 << 60
"""A decision number that no run reaches."""

_T = TypeVar("_T")


class Chooser:
    """Obeys one schedule during one run. ``taken`` records each deviation from default order, with length 1.

    No decision before number ``default_until`` deviates from default order. With ``record``, ``options`` collects the
    deviations that were possible at each decision, and ``suspendable``
    those at which a worker could be suspended, and its number.
    """

    __slots__ = (
        "_begun",
        "_happened",
        "_order",
        "_upcoming",
        "_waiting",
        "deaths",
        "decision",
        "default_until",
        "freezes",
        "late",
        "lates",
        "options",
        "suspendable",
        "taken",
    )

    def __init__(self, schedule: Schedule, workers: int, *, record: bool = False) -> None:
        self.decision: int = 0
        self.taken: list[Deviation] = []
        self.options: list[tuple[tuple[DeviationKind, int], ...]] | None = [] if record else None
        self.suspendable: list[tuple[int, int]] = []
        self._happened = 0, 0.0
        self.deaths: list[Deviation] = sorted(
            deviation for deviation in schedule.deviations if deviation.what in ("cancel", "kill")
        )
        self._upcoming = sorted((one for one in schedule.deviations if one.what in _ORDER), reverse=True)
        self._begun: list[Deviation] = []
        self._order = order_of(schedule, workers)
        self.late: dict[int, float] | None = {
            deviation.position: deviation.length / 1000 for deviation in schedule.deviations if deviation.what == "late"
        } or None
        self.lates: list[Deviation] = []
        self.freezes: list[Deviation] = []
        self._waiting: dict[int, int] = {}
        if isinstance(self._order, Paced):
            self.late = {}
        self.default_until: int = self._upcoming[-1].position if self._upcoming else _NEVER
        if record or self._order is not None:
            self.default_until = 0

    def seconds_late(self, step: int, worker: int, now: float) -> float:
        """How long a step of this worker takes. To be asked only if ``late`` is not ``None``."""
        assert self.late is not None
        if not isinstance(self._order, Paced):
            return self.late.get(step, 0.0)
        milliseconds = int(1000 * self._order.seconds_late(worker, now))
        if milliseconds:
            self.lates.append(Deviation(step, "late", worker, milliseconds))
        return milliseconds / 1000

    def note_leg(self, leg: int, worker: int) -> None:
        """Take note that a request or reply of this worker begins its way."""
        if self._order is not None:
            self._order.note_leg(leg, worker)

    def hold(self, worker: int, length: int) -> None:
        """A worker was preempted: it is frozen for so many decisions, unless the order is drawn at random."""
        if self._order is None:
            self._upcoming.append(Deviation(self.decision, "freeze", worker, length))
            self.default_until = min(self.default_until, self.decision)

    def end(self) -> None:
        """Follow default order from now on."""
        self.default_until = _NEVER
        self.late = None
        self.deaths.clear()

    def next(
        self,
        candidates: Sequence[_T],
        timer: bool,
        worker_of: Callable[[_T], int],
        now: float = 0.0,
        when: float | None = None,
    ) -> int:
        """Make one decision: the index of the chosen one of ``candidates``, or :data:`CLOCK` if ``timer`` allows it.

        It is ``now``, and the timer is due at ``when``. ``worker_of`` gives the number of a candidate's worker. It is
        called only where a deviation is possible: most decisions of a search have none, and the calls would cost time.
        """
        if self.decision < self.default_until:
            index = 0
        else:
            index = self.choose([worker_of(one) for one in candidates], timer, now, when)
        self.decision += 1
        return index

    def choose(self, ready: Sequence[int], timer: bool, now: float = 0.0, when: float | None = None) -> int:
        """The index of the chosen one of ``ready``, or :data:`CLOCK`. ``ready``: worker numbers (-1: not a worker)."""
        if self.options is not None and not (
            now > self._happened[1] and self.decision > self._happened[0] + _MOST_LOOKS
        ):
            self._record(self.options, ready, timer)
        if self._order is not None:
            index = self._order.pick(self.decision, ready, now, (when or now) if timer else None)
            self._note_waiting(ready, index)
        else:
            index = self._choose_by_deviations(ready, timer)
        if index == CLOCK:
            self.taken.append(Deviation(self.decision, "clock", 0, 1))
        elif ready[index] != ready[0]:
            self.taken.append(Deviation(self.decision, "alone", ready[index], 1))
        return index

    def _record(self, options: list[tuple[tuple[DeviationKind, int], ...]], ready: Sequence[int], timer: bool) -> None:
        """Note what else could go on here. Who is passed over here can as well be suspended later."""
        options.extend([()] * (self.decision - len(options)))  # there default order was the only one
        others: list[tuple[DeviationKind, int]] = [
            ("alone", target) for target in dict.fromkeys(ready) if target != ready[0]
        ]
        options.append((*others, ("clock", 0)) if timer else tuple(others))
        if ready[0] >= 0:
            self.suspendable.append((self.decision, ready[0]))

    def note_progress(self, now: float) -> None:
        """Take note that something has happened."""
        self._happened = self.decision, now

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

    def suspended(self) -> set[int]:
        """The workers that are frozen at the next decision."""
        if self._order is not None or self.decision < self.default_until:
            return set()
        return {one.target for one in self._in_force() if one.what == "freeze"}

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

    def _note_waiting(self, ready: Sequence[int], index: int) -> None:
        """Note who was passed over: from then on, until it is chosen, it is as good as frozen."""
        decision, waiting = self.decision, self._waiting
        if index == CLOCK:
            passed = ready
        else:
            passed, chosen = ready[:index], ready[index]
            since = waiting.pop(chosen, None)
            if since is not None:
                self.freezes.append(Deviation(since, "freeze", chosen, decision - since))
        for worker in passed:
            if worker not in waiting:
                waiting[worker] = decision

    def as_freezes(self) -> tuple[Deviation, ...]:
        """The run under a random kind, told as workers that were frozen: far fewer facts than those in ``taken``."""
        left = [Deviation(since, "freeze", who, self.decision - since) for who, since in self._waiting.items()]
        return tuple(sorted([*self.freezes, *left]))


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
