"""How Hypothesis draws a schedule: a fixed, small number of small integers, all up front.

All zeros mean default order, so that shrinking moves toward it. The first draw picks the kind, as each of the three
kinds finds bugs that the others miss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataclasses import replace
from random import Random

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fake_server.faults import Fault
from fake_server.secrecy import shown
from pytest_claude_tokens.search.hypothesis_engine import IntegerStrategy
from pytest_claude_tokens.search.portfolio import Portfolio
from pytest_claude_tokens.simulation.schedule import (
    DEFAULT_ORDER,
    LENGTHS,
    Deviation,
    DeviationKind,
    PlannedFault,
    Schedule,
    ScheduleKind,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fake_server.faults import RequestKind
    from pytest_claude_tokens.search.hypothesis_engine import DrawInteger, DrawValue

__all__ = ["schedules"]

_SCHEDULE_KINDS: tuple[ScheduleKind, ...] = ("deviations",) * 7 + ("pct",) * 2 + ("walk",)
_DEVIATION_KINDS: tuple[DeviationKind, ...] = ("freeze",) * 4 + ("slow",) * 3 + ("alone",) * 2 + ("clock",)
_PROCESS_DEATH_REACH = (2, 4, 8)
"""The decision numbers before which a process is killed: a run has two decisions per request, and few requests."""
_PROCESS_DEVIATION_KINDS: tuple[DeviationKind, ...] = ("freeze",) * 2 + ("alone",)
_FAULTY_REQUESTS: tuple[RequestKind, ...] = ("token", "token", "token", "call")
_REACH = (15, 15, 40, 120)
"""The decision numbers before which deviations begin: mostly small, as most runs are short."""


class _Schedules(IntegerStrategy[Schedule]):
    def __init__(
        self,
        workers: int,
        faults: SearchStrategy[Fault] | None,
        deaths: Sequence[DeviationKind],
        signals: Sequence[int],
        *,
        processes: bool,
    ) -> None:
        super().__init__()
        self._signals = tuple(signals) or (1,)
        self._deviation_kinds = _PROCESS_DEVIATION_KINDS if processes else _DEVIATION_KINDS
        self._death_reach = _PROCESS_DEATH_REACH if processes else _REACH
        self._workers = workers
        self._processes = processes
        self._faults = faults
        self._deaths = tuple(deaths)
        self.integers_only = faults is None

    def draw_from(self, integer: DrawInteger, value: DrawValue | None = None) -> Schedule:
        """A schedule. In each draw, zero stands for default order."""
        deviations: list[Deviation] = []
        drawn = DEFAULT_ORDER
        if self._processes:
            deviations = [self._deviation(integer) for _ in range(integer(0, 6))]
        else:
            seed = integer(0, 0xFFFFFFFF)
            if seed:
                drawn = Portfolio(self._workers).draw(Random(seed))
        deviations += [
            Deviation(
                integer(0, self._death_reach[integer(0, 2)]), what, integer(0, self._workers - 1), self._signal(integer)
            )
            for what in self._deaths
            if integer(0, 2)
        ]
        planned_faults: list[PlannedFault] = []
        if self._faults is not None:
            assert value is not None, "faults are no integers"
            planned_faults = [
                PlannedFault(integer(0, 5), _FAULTY_REQUESTS[integer(0, 3)], value(self._faults))
                for _ in range(integer(0, 3))
            ]
        return replace(drawn, deviations=(*drawn.deviations, *deviations), planned_faults=tuple(planned_faults))

    def _signal(self, integer: DrawInteger) -> int:
        return self._signals[integer(0, len(self._signals) - 1)] if len(self._signals) > 1 else self._signals[0]

    def _deviation(self, integer: DrawInteger) -> Deviation:
        what = self._deviation_kinds[integer(0, len(self._deviation_kinds) - 1)]
        if what == "slow":
            raise AssertionError
        position = integer(0, _REACH[integer(0, len(_REACH) - 1)])
        target = integer(0, self._workers) if what != "clock" else 0
        if target == self._workers:
            target = -1
        return Deviation(position, what, target, LENGTHS[integer(0, len(LENGTHS) - 1)])


def schedules(
    workers: int,
    *,
    faults: Sequence[Fault] | SearchStrategy[Fault] | None = None,
    deaths: Sequence[DeviationKind] = (),
    signals: Sequence[int] = (),
    processes: bool = False,
) -> IntegerStrategy[Schedule]:
    """Schedules for so many workers, with faults, cancellations and kills only if requested.

    With ``processes`` time is real: there are no slow legs and no early timers. ``signals`` are those that kill.
    """
    return _Schedules(workers, fault_strategy(faults), deaths, signals, processes=processes)


def fault_strategy(faults: Sequence[Fault] | SearchStrategy[Fault] | None) -> SearchStrategy[Fault] | None:
    """The argument ``explore(faults=…)`` as a strategy. Raises ``TypeError`` for anything but faults."""
    if faults is None or isinstance(faults, SearchStrategy):
        return faults
    for fault in faults:
        if not isinstance(fault, Fault):
            raise TypeError(f"explore(faults=[{shown(fault)}]): a fault is a value, such as Fault.RESET")
    return st.sampled_from(list(faults)) if faults else None
