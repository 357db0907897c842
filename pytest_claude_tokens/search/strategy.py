"""How Hypothesis draws a schedule: as a few integers, all up front.

All zeros mean default order, so that shrinking moves toward it. Any schedule can be written as such integers: what a
search has found by other means goes into Hypothesis's example database in this form.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fake_server.faults import Fault
from fake_server.secrecy import shown
from pytest_claude_tokens.search.hypothesis_engine import IntegerStrategy
from pytest_claude_tokens.search.points import Points
from pytest_claude_tokens.search.portfolio import LATENCIES, Portfolio
from pytest_claude_tokens.simulation.schedule import (
    DEFAULT_ORDER,
    LENGTHS,
    Deviation,
    DeviationKind,
    Latency,
    LatencyKind,
    PlannedFault,
    Schedule,
    ScheduleKind,
)
from pytest_claude_tokens.simulation.scheduler import SLOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fake_server.faults import RequestKind
    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.search.hypothesis_engine import DrawInteger, DrawValue

__all__ = ["ProcessScheduleStrategy", "ScheduleStrategy", "fault_strategy", "process_schedules", "schedules"]

_SCHEDULE_KINDS: tuple[ScheduleKind, ...] = ("deviations", "pct", "walk", "paced", "pos")
_LATENCY_KINDS: tuple[LatencyKind, ...] = tuple(LATENCIES)
_DEVIATION_KINDS: tuple[DeviationKind, ...] = ("freeze", "alone", "clock", "slow", "late", "preempt")
_PROCESS_SCHEDULE_KINDS: tuple[ScheduleKind, ...] = ("deviations",) * 7 + ("pct",) * 2 + ("walk",)
_PROCESS_DEVIATION_KINDS: tuple[DeviationKind, ...] = ("freeze",) * 2 + ("alone",)
_PROCESS_REACH = (15, 15, 40, 120)
"""The decision numbers before which deviations begin: mostly small, as most runs are short."""
_PROCESS_DEATH_REACH = (2, 4, 8)
"""The decision numbers before which a process is killed: a run has two decisions per request, and few requests."""
_FAULTY_REQUESTS: tuple[RequestKind, ...] = ("token", "token", "token", "call")
_MOST_DEVIATIONS = 40
_LONGEST_PLACE = 200
_MOST = 0xFFFF
"""The largest number in a schedule, but for the longest time."""


class ScheduleStrategy(IntegerStrategy[Schedule]):
    """Schedules for so many workers: those of the portfolio, or any other that is written out."""

    def __init__(
        self,
        workers: int,
        faults: SearchStrategy[Fault] | None,
        deaths: Sequence[DeviationKind],
        slow: float = SLOW_SECONDS,
    ) -> None:
        super().__init__()
        self._slow = slow
        self._longest = max(_MOST, int(1000 * slow))
        self._workers = workers
        self._faults = faults
        self._deaths = tuple(deaths)
        self._deviation_kinds = (*_DEVIATION_KINDS, *self._deaths)
        self.integers_only: bool = faults is None
        self._points = Points()
        self._by_seed: dict[int, Schedule] = {}

    def forget(self) -> None:
        """A new search begins: what earlier ones have shown must not change what its seed stands for."""
        self._points = Points()
        self._by_seed.clear()

    def learn(self, outcome: Outcome) -> None:
        """Take note of where the threads of a run may be preempted."""
        self._points.learn(outcome)

    def portfolio(self) -> Portfolio:
        """A new portfolio, which has seen nothing yet."""
        return Portfolio(self._workers, self._deaths, self._slow)

    def draw_from(self, integer: DrawInteger, value: DrawValue | None = None) -> Schedule:
        """A schedule. All zeros stand for default order."""
        seed = integer(0, 0xFFFFFFFF)
        drawn = self._drawn(seed) if seed else self._written(integer)
        return replace(drawn, planned_faults=planned(self._faults, integer, value))

    def _drawn(self, seed: int) -> Schedule:
        """The schedule that a seed stands for: the same throughout a search, whatever has been learnt since."""
        drawn = self._by_seed.get(seed)
        if drawn is None:
            random = Random(seed)
            drawn = self.portfolio().draw(random)
            if self._points:
                drawn = self._points.among(random, random.choice([drawn, DEFAULT_ORDER]))
            self._by_seed[seed] = drawn
        return drawn

    def written(self, schedule: Schedule) -> list[int]:
        """The integers for which :meth:`draw_from` gives ``schedule``, which meets no faults."""
        latency = schedule.latency
        integers = [
            0,
            _SCHEDULE_KINDS.index(schedule.kind),
            schedule.seed,
            _LATENCY_KINDS.index(latency.kind),
            latency.milliseconds,
            schedule.scale,
            schedule.reach,
            len(schedule.deviations),
        ]
        for deviation in schedule.deviations:
            integers += [
                self._deviation_kinds.index(deviation.what),
                deviation.position + 1,
                deviation.target + 1,
                deviation.length,
            ]
            if deviation.what == "preempt":
                letters = deviation.place.encode()[:_LONGEST_PLACE]
                integers += [len(letters), *letters]
        return integers

    def _written(self, integer: DrawInteger) -> Schedule:
        """Reads what :meth:`written` has written."""
        kind = _SCHEDULE_KINDS[integer(0, len(_SCHEDULE_KINDS) - 1)]
        seed = integer(0, _MOST)
        latency = Latency(_LATENCY_KINDS[integer(0, len(_LATENCY_KINDS) - 1)], integer(0, self._longest))
        scale, reach = integer(0, self._longest), integer(0, _MOST)
        deviations = []
        for _ in range(integer(0, _MOST_DEVIATIONS)):
            what = self._deviation_kinds[integer(0, len(self._deviation_kinds) - 1)]
            position, target = integer(0, _MOST) - 1, integer(0, self._workers) - 1
            length = integer(0, self._longest)
            place = ""
            if what == "preempt":
                letters = bytes(integer(0, 255) for _ in range(integer(0, _LONGEST_PLACE)))
                place = letters.decode(errors="replace")
            deviations.append(Deviation(position, what, target, length, place))
        return Schedule(kind, tuple(deviations), seed, latency=latency, scale=scale, reach=reach)


class ProcessScheduleStrategy(IntegerStrategy[Schedule]):
    """Schedules for worker processes. Their time is real: no leg is slow, and no timer early.

    ``signals``: those that kill.
    """

    integers_only: bool = False

    def __init__(
        self,
        workers: int,
        faults: SearchStrategy[Fault] | None,
        deaths: Sequence[DeviationKind],
        signals: Sequence[int],
    ) -> None:
        super().__init__()
        self._workers = workers
        self._faults = faults
        self._deaths = tuple(deaths)
        self._signals = tuple(signals) or (1,)

    def draw_from(self, integer: DrawInteger, value: DrawValue | None = None) -> Schedule:
        """A schedule. In each draw, zero stands for default order."""
        kind = _PROCESS_SCHEDULE_KINDS[integer(0, len(_PROCESS_SCHEDULE_KINDS) - 1)]
        deviations = [self._deviation(integer) for _ in range(integer(0, 6))]
        deviations += [
            Deviation(
                integer(0, _PROCESS_DEATH_REACH[integer(0, 2)]),
                what,
                integer(0, self._workers - 1),
                self._signal(integer),
            )
            for what in self._deaths
            if integer(0, 2)
        ]
        planned_faults = planned(self._faults, integer, value)
        seed = integer(0, _MOST)
        return Schedule(kind=kind, deviations=tuple(deviations), seed=seed, planned_faults=planned_faults)

    def _signal(self, integer: DrawInteger) -> int:
        return self._signals[integer(0, len(self._signals) - 1)] if len(self._signals) > 1 else self._signals[0]

    def _deviation(self, integer: DrawInteger) -> Deviation:
        what = _PROCESS_DEVIATION_KINDS[integer(0, len(_PROCESS_DEVIATION_KINDS) - 1)]
        position = integer(0, _PROCESS_REACH[integer(0, len(_PROCESS_REACH) - 1)])
        target = integer(0, self._workers)
        if target == self._workers:
            target = -1
        return Deviation(position, what, target, LENGTHS[integer(0, len(LENGTHS) - 1)])


def schedules(
    workers: int,
    *,
    faults: Sequence[Fault] | SearchStrategy[Fault] | None = None,
    deaths: Sequence[DeviationKind] = (),
    slow: float = SLOW_SECONDS,
) -> ScheduleStrategy:
    """Schedules for so many workers, with faults, cancellations and kills only if requested.

    ``slow``: the seconds by which they may hold up workers and replies.
    """
    return ScheduleStrategy(workers, fault_strategy(faults), deaths, slow)


def process_schedules(
    workers: int,
    *,
    faults: Sequence[Fault] | SearchStrategy[Fault] | None = None,
    signals: Sequence[int] = (),
) -> ProcessScheduleStrategy:
    """The same for worker processes, which ``signals`` kill."""
    return ProcessScheduleStrategy(workers, fault_strategy(faults), ("kill",) if signals else (), signals)


def planned(
    faults: SearchStrategy[Fault] | None, integer: DrawInteger, value: DrawValue | None
) -> tuple[PlannedFault, ...]:
    """Up to three faults, each for one of the first requests; none if there is no strategy of them."""
    if faults is None:
        return ()
    assert value is not None, "faults are no integers"
    return tuple(
        PlannedFault(integer(0, 5), _FAULTY_REQUESTS[integer(0, 3)], value(faults)) for _ in range(integer(0, 3))
    )


def fault_strategy(faults: Sequence[Fault] | SearchStrategy[Fault] | None) -> SearchStrategy[Fault] | None:
    """The argument ``explore(faults=…)`` as a strategy. Raises ``TypeError`` for anything but faults."""
    if faults is None or isinstance(faults, SearchStrategy):
        return faults
    for fault in faults:
        if not isinstance(fault, Fault):
            raise TypeError(f"explore(faults=[{shown(fault)}]): a fault is a value, such as Fault.RESET")
    return st.sampled_from(list(faults)) if faults else None
