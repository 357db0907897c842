"""The choices that produce a history, as one frozen value, and the chooser that obeys it.

Every runner asks the same thing: these can run, in the order in which they became ready; this is decision number n;
who goes? In default order it is the first one. A *deviation* chooses another for a while, and a schedule is a handful
of deviations, so that the shortest failing schedule reads as a sentence: "w1 is frozen for 5 decisions".

Three kinds: ``deviations``; ``pct``, random priorities with a few change points (Burckhardt et al., A Randomized
Scheduler with Probabilistic Guarantees of Finding Bugs, ASPLOS 2010); and ``walk``, a uniform choice each time. The
last two come from ``seed``; a run under them records its deviations from default order.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from signal import Signals
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fake_server.faults import Fault, Target

__all__ = [
    "CLOCK",
    "DEFAULT_ORDER",
    "DELAYS",
    "LENGTHS",
    "Chooser",
    "Deviation",
    "DeviationKind",
    "Kind",
    "PlannedFault",
    "Schedule",
]

DeviationKind = Literal["freeze", "alone", "clock", "slow", "cancel", "kill"]
Kind = Literal["deviations", "pct", "walk"]

LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34)
"""For how many decisions a deviation may hold."""

DELAYS = (0.0, 0.05, 1.0, 4.0, 12.0, 25.0, 50.0)
"""Seconds that a slow leg of a request may take; 50 is under the minute that a search may move time by."""

CLOCK = -2
"""The answer of a chooser that lets the next timer fire although somebody could run."""


@dataclass(frozen=True, slots=True, order=True)
class Deviation:
    """One deviation from default order.

    ``freeze``: from decision ``position`` on, for ``length`` decisions, ``target`` is not chosen while others can run
    or a timer can fire. ``alone``: only ``target`` is chosen while it can run. ``clock``: timers fire although
    somebody could run. ``slow``: network leg number ``position`` takes ``DELAYS[length]``. ``cancel`` and ``kill``:
    ``target`` is cancelled, or dies, at decision ``position``; a process by the signal of number ``length``.
    """

    position: int
    what: DeviationKind
    target: int
    length: int

    def text(self) -> str:
        """The deviation as a person would say it."""
        who = f"w{self.target}" if self.target >= 0 else "the body"
        if self.what == "freeze":
            return f"{who} is frozen for {_decisions(self.length)} from decision {self.position}"
        if self.what == "alone":
            return f"{who} runs alone for {_decisions(self.length)} from decision {self.position}"
        if self.what == "clock":
            return f"timers fire early for {_decisions(self.length)} from decision {self.position}"
        if self.what == "slow":
            return f"network leg {self.position} takes {DELAYS[self.length]:g} s"
        if self.what == "kill" and self.length > 1:
            return f"{who} gets {Signals(self.length).name} at decision {self.position}"
        return f"{who} is {'cancelled' if self.what == 'cancel' else 'killed'} at decision {self.position}"


def _decisions(number: int) -> str:
    return f"{number} decision{'s' * (number != 1)}"


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """Request number ``position`` of those of kind ``target`` (``"token"`` or ``"call"``) meets ``fault``."""

    position: int
    target: Target
    fault: Fault

    def text(self) -> str:
        """The fault as a person would say it."""
        return f"{'token request' if self.target == 'token' else 'call'} {self.position + 1} meets {self.fault}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """What deviates from default order in one run. ``seed`` also feeds the jitter that the code under test draws."""

    kind: Kind = "deviations"
    deviations: tuple[Deviation, ...] = ()
    seed: int = 0
    planned_faults: tuple[PlannedFault, ...] = ()

    def text(self) -> str:
        """One line."""
        parts = [deviation.text() for deviation in self.deviations] + [
            planned.text() for planned in self.planned_faults
        ]
        if self.kind != "deviations":
            parts.insert(0, f"{self.kind} with seed {self.seed}")
        return "; ".join(parts) or "default order"


DEFAULT_ORDER = Schedule()
_ORDER = ("freeze", "alone", "clock")


class Chooser:
    """Obeys one schedule during one run. ``taken`` records each deviation from default order, with length 1.

    Before the decision ``default_until`` nothing deviates from it, and there is no need to ask. With ``record``,
    ``options`` are the deviations that were possible at each decision.
    """

    __slots__ = (
        "_changes",
        "_facts",
        "_kind",
        "_priority",
        "_random",
        "deaths",
        "decision",
        "default_until",
        "options",
        "taken",
    )

    def __init__(self, schedule: Schedule, workers: int, *, record: bool = False) -> None:
        self.decision = 0
        self.taken: list[Deviation] = []
        self.options: list[tuple[tuple[DeviationKind, int], ...]] | None = [] if record else None
        self.deaths = sorted(deviation for deviation in schedule.deviations if deviation.what in ("cancel", "kill"))
        self._facts = sorted(deviation for deviation in schedule.deviations if deviation.what in _ORDER)
        self._kind = schedule.kind
        self._random = Random(schedule.seed) if schedule.kind != "deviations" else None
        self._priority: dict[int, float] = {}
        self._changes: frozenset[int] = frozenset()
        if self._random is not None and schedule.kind == "pct":
            self._changes = frozenset(self._random.randrange(60) for _ in range(self._random.randrange(1, 4)))
            self._priority = {k: self._random.random() for k in range(-1, workers)}
        self.default_until = self._facts[0].position if self._facts else 1 << 60
        if record or self._random is not None:
            self.default_until = 0

    def end(self) -> None:
        """From now on nothing deviates from default order."""
        self.default_until = 1 << 60
        self.deaths.clear()

    def choose(self, ready: Sequence[int], timer: bool) -> int:
        """The index into ``ready`` of who goes, or :data:`CLOCK`. ``ready`` are targets (-1: not a worker)."""
        if self.options is not None:
            others: list[tuple[DeviationKind, int]] = [
                ("alone", target) for target in dict.fromkeys(ready) if target != ready[0]
            ]
            self.options.append((*others, ("clock", 0)) if timer else tuple(others))
        if self._random is not None:
            index = self._choose_at_random(ready, timer)
        else:
            index = self._choose_by_facts(ready, timer)
        if index == CLOCK:
            self.taken.append(Deviation(self.decision, "clock", 0, 1))
        elif ready[index] != ready[0]:
            self.taken.append(Deviation(self.decision, "alone", ready[index], 1))
        return index

    def _choose_by_facts(self, ready: Sequence[int], timer: bool) -> int:
        decision = self.decision
        frozen: set[int] = set()
        in_force, next_one = False, 1 << 60
        for deviation in self._facts:
            if deviation.position > decision:
                next_one = deviation.position
                break
            if decision >= deviation.position + deviation.length:
                continue
            in_force = True
            if deviation.what == "clock":
                if timer:
                    return CLOCK
            elif deviation.what == "freeze":
                frozen.add(deviation.target)
            else:
                if deviation.target in ready:
                    return ready.index(deviation.target)
                if deviation.target == -1 and (target := next((t for t in ready if t < 0), 0)):
                    return ready.index(target)
        if frozen:
            for index, target in enumerate(ready):
                if target not in frozen and not (target < 0 and -1 in frozen):
                    return index
            if timer:
                return CLOCK
        if not in_force and self.options is None:
            self.default_until = next_one
        return 0

    def _choose_at_random(self, ready: Sequence[int], timer: bool) -> int:
        random = self._random
        assert random is not None
        if timer and random.random() < 0.05:
            return CLOCK
        if self._kind == "walk":
            return ready.index(random.choice(sorted(set(ready))))
        if self.decision in self._changes:
            self._priority[max(ready, key=self._of)] = -random.random()
        return max(range(len(ready)), key=lambda index: (self._of(ready[index]), -index))

    def _of(self, target: int) -> float:
        return self._priority.get(target, 0.0)
