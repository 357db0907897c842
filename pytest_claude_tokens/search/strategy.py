"""How Hypothesis draws a schedule: a fixed, small number of small numbers, all of them up front.

Zero is default order, so that shrinking ends at the shortest deviation from it. The first draw picks the kind, as each
of the three finds bugs that another one misses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fake_server.faults import Fault
from fake_server.secrecy import shown
from pytest_claude_tokens.simulation.schedule import (
    DELAYS,
    LENGTHS,
    Deviation,
    DeviationKind,
    Kind,
    PlannedFault,
    Schedule,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from fake_server.faults import Target

__all__ = ["IntegerSource", "fault_strategy", "schedules"]

_KINDS: tuple[Kind, ...] = ("facts",) * 7 + ("pct",) * 2 + ("walk",)
_WHATS: tuple[DeviationKind, ...] = ("freeze",) * 4 + ("slow",) * 3 + ("alone",) * 2 + ("clock",)
_PROCESS_LIVES = (2, 4, 8)
"""When a process dies: a run has two decisions for each of its few requests, and a later death never strikes."""
_PROCESS_WHATS: tuple[DeviationKind, ...] = ("freeze",) * 2 + ("alone",)
_TARGETS: tuple[Target, ...] = ("token", "token", "token", "call")
_REACH = (15, 15, 40, 120)
"""How far into a run deviations may begin: mostly early, as most runs are short."""


class IntegerSource:
    """Draws integers as Hypothesis's data does, from a generator. ``choices`` are what Hypothesis would call so."""

    def __init__(self, source: Random) -> None:
        self.choices: list[int] = []
        random, keep = source.random, self.choices.append

        def draw_integer(low: int, high: int) -> int:
            choice = low + int(random() * (high - low + 1))
            keep(choice)
            return choice

        self.draw_integer = draw_integer
        """One of ``low`` to ``high``, each as likely. A closure: some twenty are drawn for each schedule."""


class _Schedules(SearchStrategy[Schedule]):
    """Draws integers straight from the data, several times faster than a composite of strategies."""

    def __init__(
        self, workers: int, faults: Any, deaths: Sequence[DeviationKind], signals: Sequence[int], *, processes: bool
    ) -> None:
        super().__init__()
        self._signals = tuple(signals) or (1,)
        self._whats = _PROCESS_WHATS if processes else _WHATS
        self._lives = _PROCESS_LIVES if processes else _REACH
        self._workers = workers
        self._faults = faults
        self._deaths = tuple(deaths)
        self.of_integers = faults is None
        """Whether :class:`IntegerSource` will do."""

    def do_draw(self, data: Any) -> Schedule:
        integer = data.draw_integer
        kind = _KINDS[integer(0, len(_KINDS) - 1)]
        deviations = [self._fact(integer) for _ in range(integer(0, 6))]
        deviations += [
            Deviation(
                integer(0, self._lives[integer(0, 2)]), what, integer(0, self._workers - 1), self._signal(integer)
            )
            for what in self._deaths
            if integer(0, 2)
        ]
        planned_faults: list[PlannedFault] = []
        if self._faults is not None:
            planned_faults = [
                PlannedFault(integer(0, 5), _TARGETS[integer(0, 3)], data.draw(self._faults))
                for _ in range(integer(0, 3))
            ]
        seed = integer(0, 0xFFFF)
        return Schedule(kind=kind, deviations=tuple(deviations), seed=seed, planned_faults=tuple(planned_faults))

    def _signal(self, integer: Any) -> int:
        return self._signals[integer(0, len(self._signals) - 1)] if len(self._signals) > 1 else self._signals[0]

    def _fact(self, integer: Any) -> Deviation:
        what = self._whats[integer(0, len(self._whats) - 1)]
        if what == "slow":
            return Deviation(integer(0, 11), what, 0, integer(1, len(DELAYS) - 1))
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
) -> SearchStrategy[Schedule]:
    """Schedules for so many workers; faults and deaths only where they were asked for.

    With ``processes`` time is real: there are no slow legs and no early timers. ``signals`` are those that kill.
    """
    return _Schedules(workers, fault_strategy(faults), deaths, signals, processes=processes)


def fault_strategy(faults: Sequence[Fault] | SearchStrategy[Fault] | None) -> SearchStrategy[Fault] | None:
    """What ``explore(faults=…)`` was given, as a strategy. Raises ``TypeError`` for what is no fault."""
    if faults is None or isinstance(faults, SearchStrategy):
        return faults
    for fault in faults:
        if not isinstance(fault, Fault):
            raise TypeError(f"explore(faults=[{shown(fault)}]): a fault is a value, such as Fault.RESET")
    return st.sampled_from(list(faults)) if faults else None
