"""The choices that produce a history, as one frozen value; :mod:`pytest_claude_tokens.simulation.chooser` obeys it.

In default order the first that became ready goes on. A *deviation* prefers another for a while. A schedule is a handful
of deviations, so that the shortest failing schedule reads as a sentence: "w1 is frozen for 5 decisions".

Five kinds: ``deviations``, and four that draw the order at random, from ``seed``: ``pct``, ``pos``, ``walk``, ``paced``
(:mod:`pytest_claude_tokens.simulation.orders`). How long the legs of requests take may be drawn, too. Whatever was
drawn, a run records it as deviations from default order, and is the same again under these.
"""

from __future__ import annotations

from dataclasses import dataclass
from signal import Signals
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fake_server.faults import Fault, RequestKind

__all__ = [
    "DEFAULT_ORDER",
    "EACH_LEG",
    "FOR_GOOD",
    "LENGTHS",
    "UNTIL_LEG",
    "Delay",
    "DelayWhy",
    "Deviation",
    "DeviationKind",
    "Latency",
    "LatencyKind",
    "PlannedFault",
    "Schedule",
    "ScheduleKind",
]

DeviationKind = Literal["freeze", "alone", "clock", "slow", "late", "cancel", "kill", "preempt"]
ScheduleKind = Literal["deviations", "pct", "walk", "paced", "pos"]
LatencyKind = Literal["none", "same", "uniform", "heavy", "requests", "replies", "worker"]
DelayWhy = Literal["slow", "request", "reply", "piece"]
Delay = tuple[int, DelayWhy, float]
"""Whom a run has held up (the number of a worker, negative for anything else), what took so long, and the seconds."""

LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34)
"""Numbers of decisions for which a deviation may hold."""
FOR_GOOD = 50_000
"""That of one which ends with the run, or as soon as nothing else can go on and the run may not be held up any more."""
UNTIL_LEG = 40_000
"""That of a preempted thread which is away until a request or a reply of another's is under way."""

EACH_LEG = -1
"""The position of a ``slow`` deviation that holds for each leg of each request."""


@dataclass(frozen=True, slots=True, order=True)
class Deviation:
    """One deviation from default order.

    ``freeze``: from decision ``position`` on, for ``length`` decisions, ``target`` is not chosen while others can run
    or a timer can fire. ``alone``: only ``target`` is chosen while it can run. ``clock``: timers fire although
    something could run. ``slow``: network leg number ``position`` takes ``length`` milliseconds. ``late``: ``target``
    needs ``length`` milliseconds for step number ``position`` of the run, and nothing else goes on meanwhile (a step
    follows each decision, and is taken where there is nothing to decide). ``cancel`` and ``kill``: ``target`` is
    cancelled or killed at decision ``position``; a process by signal number ``length``. ``preempt``: ``target``, a
    thread, loses its turn before the access at ``place`` in the source, when it has been there ``position`` times, and
    is frozen for ``length`` decisions, :data:`UNTIL_LEG` or :data:`FOR_GOOD`.
    """

    position: int
    what: DeviationKind
    target: int
    length: int
    place: str = ""

    def text(self) -> str:
        """The deviation in words."""
        who = f"w{self.target}" if self.target >= 0 else "the body"
        if self.what == "freeze":
            if self.length >= FOR_GOOD:
                return f"{who} is suspended from decision {self.position} on"
            return f"{who} is frozen for {_decisions(self.length)} from decision {self.position}"
        if self.what == "alone":
            return f"{who} runs alone for {_decisions(self.length)} from decision {self.position}"
        if self.what == "clock":
            return f"timers fire early for {_decisions(self.length)} from decision {self.position}"
        if self.what == "preempt":
            return f"{who} is preempted before {self._place_in_words()}"
        if self.what == "slow":
            which = "each network leg" if self.position == EACH_LEG else f"network leg {self.position}"
            return f"{which} takes {self.length / 1000:g} s"
        if self.what == "late":
            return f"{who} is late by {self.length / 1000:g} s at step {self.position}"
        if self.what == "kill" and self.length > 1:
            return f"{who} gets {Signals(self.length).name} at decision {self.position}"
        return f"{who} is {'cancelled' if self.what == 'cancel' else 'killed'} at decision {self.position}"

    def _place_in_words(self) -> str:
        from pytest_claude_tokens.simulation.accesses import PLACES

        known = PLACES.get(self.place)
        words = ":".join(self.place.split(":")[:2]) if known is None else known.words
        times = f", {_ordinal(self.position + 1)} time there" if self.position else ""
        frozen = f", for {_decisions(self.length)}" if self.length > 1 else ""
        if self.length == UNTIL_LEG:
            frozen = ", until another's request or reply is under way"
        elif self.length >= FOR_GOOD:
            frozen = ", until nobody else can go on"
        return words + times + frozen


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"


def _decisions(number: int) -> str:
    return f"{number} decision{'s' * (number != 1)}"


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """``fault`` strikes request number ``position`` among those of kind ``target`` (``"token"`` or ``"call"``)."""

    position: int
    target: RequestKind
    fault: Fault

    def text(self) -> str:
        """The fault in words."""
        return f"{'token request' if self.target == 'token' else 'call'} {self.position + 1} meets {self.fault}"


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the legs of all requests take that no deviation names, drawn from the schedule's seed.

    ``same``: each takes ``milliseconds``; ``uniform``: up to that; ``heavy``: mostly far less. ``requests``,
    ``replies``, ``worker``: as ``uniform``, but only these legs, or only those of one worker.
    """

    kind: LatencyKind = "none"
    milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How one run deviates from default order. ``seed`` also seeds the random numbers of the code under test.

    ``scale``: milliseconds of a step under ``paced``. ``reach``: how many decisions (``pct``), or steps of a worker
    (``paced``), a run is thought to have.
    """

    kind: ScheduleKind = "deviations"
    deviations: tuple[Deviation, ...] = ()
    seed: int = 0
    planned_faults: tuple[PlannedFault, ...] = ()
    latency: Latency = Latency()
    scale: int = 0
    reach: int = 0

    @property
    def is_random(self) -> bool:
        """Whether the run draws something from the seed: the order in which workers go on, or latencies."""
        return self.kind != "deviations" or self.latency.kind != "none"

    def text(self, words: Mapping[Deviation, str] | None = None) -> str:
        """The schedule in words, on one line. ``words``: what some deviations did in a run, to stand before them."""
        told = words or {}
        parts = [
            f"{told[deviation]} [{deviation.text()}]" if deviation in told else deviation.text()
            for deviation in self.deviations
        ] + [planned.text() for planned in self.planned_faults]
        if self.latency.kind != "none":
            parts.insert(0, f"{self.latency.kind} latencies of {self.latency.milliseconds / 1000:g} s")
        if self.kind != "deviations":
            parts.insert(0, f"{self.kind} with seed {self.seed}")
        return "; ".join(parts) or "default order"


DEFAULT_ORDER = Schedule()
