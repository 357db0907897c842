"""The portfolio: which kinds of schedules a search draws, how often, and on what scales.

No single distribution finds everything. What needs two requests to overlap, latencies find; what needs a worker to be
slow at some moment, a pace or priorities; what needs one exact switch, a deviation. So each schedule draws an order and
a latency, from the tables below. Positions and times are on the scale of the body at hand, as far as earlier runs have
shown it. The first schedules are fixed: they are cheap and broad, and many searches need no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log2, log10
from typing import TYPE_CHECKING, Literal

from pytest_claude_tokens.search.points import Points
from pytest_claude_tokens.simulation.schedule import (
    DEFAULT_ORDER,
    FOR_GOOD,
    LENGTHS,
    UNTIL_LEG,
    Deviation,
    Latency,
    Schedule,
)
from pytest_claude_tokens.simulation.scheduler import SLOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.simulation.schedule import DeviationKind, LatencyKind

    OrderKind = Literal["default", "deviations", "suspended", "pct", "pos", "paced"]

__all__ = ["EARLY", "LATENCIES", "OPENING", "ORDERS", "Knowledge", "Portfolio"]

OPENING = (Latency("same", 12_000), Latency())
"""The latencies of the first schedules of a search, in default order. In the first one each request takes 24 s: all
that come within that time overlap, or within the time for which the least patient client waits.
"""
EARLY: tuple[tuple[OrderKind, Latency, int], ...] = (
    ("pos", Latency("same", 30_000), 0),
    ("paced", Latency("uniform", 30_000), 20_000),
    ("pos", Latency("requests", 60_000), 0),
    ("pos", Latency("worker", 3_000), 0),
    ("paced", Latency("same", 3_000), 20_000),
    ("pos", Latency("requests", 300), 0),
    ("pct", Latency("worker", 30_000), 0),
    ("paced", Latency("uniform", 3_000), 20_000),
    ("suspended", Latency("same", 1_000), 0),
    ("pos", Latency(), 0),
)
"""The kinds of those that follow: an order, a latency, and milliseconds of a step. Each was chosen as the one that
finds most of what those before it leave, in a population of programs (``benchmarks/README.md``). Times of more than a
second are for searches that may hold up a run by a minute, and longer or shorter in others.
"""
ORDERS: dict[OrderKind, int] = {"default": 1, "deviations": 2, "suspended": 2, "pct": 3, "pos": 7, "paced": 9}
"""How often each order is drawn. A walk is not: partial orders in its place find more (``benchmarks/README.md``)."""
LATENCIES: dict[LatencyKind, int] = {
    "none": 2,
    "same": 2,
    "uniform": 4,
    "heavy": 3,
    "requests": 3,
    "replies": 1,
    "worker": 3,
}
"""How often each latency is drawn."""
_DEVIATIONS: tuple[DeviationKind, ...] = ("freeze",) * 4 + ("slow",) * 3 + ("alone",) * 2 + ("clock",)
_MOST_DEVIATIONS = 6
_REACH = (15, 15, 40, 120)
"""The number of decisions before which deviations begin, where no run has been seen: most runs are short."""
_MOST_DECISIONS = 400
_MOST_LEGS = 16
_EACH_SUSPENSION, _MOST_SUSPENSIONS = 3, 16
"""Of a body that waits for time to pass, every third schedule suspends a worker at another decision, up to so many."""
_LONGEST = 5 / 6
"""The longest time that is drawn at random, as a share of what there is: a second delay may be a short one, too."""


@dataclass(slots=True)
class Knowledge:
    """What runs in orders near the default have shown: how long a run is, and for how long it waits.

    ``decisions``: in all; ``first_leg``, ``last_leg``: up to its first request and its last reply. ``waits``: the
    seconds of its timers, one of each order of magnitude, by their logarithm; up to twice the ``longest`` time drawn.
    ``points``: where its threads may be preempted. ``timed``: the decisions of a run in default order in which timers
    were set, else 0.
    """

    longest: float = SLOW_SECONDS * _LONGEST
    decisions: int = 0
    first_leg: int = 0
    last_leg: int = 0
    legs: int = 0
    timed: int = 0
    waits: dict[int, float] = field(default_factory=dict)
    points: Points = field(default_factory=Points, compare=False)

    def learn(self, outcome: Outcome) -> None:
        """Take note of a run."""
        schedule = outcome.schedule
        self.points.learn(outcome)
        if schedule.kind == "deviations":
            self.decisions = max(self.decisions, min(outcome.decisions, _MOST_DECISIONS))
            self.first_leg = max(self.first_leg, min(outcome.first_leg, _MOST_DECISIONS))
            self.last_leg = max(self.last_leg, min(outcome.last_leg, _MOST_DECISIONS))
            self.legs = max(self.legs, min(outcome.legs, _MOST_LEGS))
        if schedule == DEFAULT_ORDER:  # elsewhere there are timers of the search's own
            self.timed = outcome.decisions if outcome.slept else 0
            for wait in outcome.slept:
                if 0.001 <= wait < 2 * self.longest:
                    self.waits[round(log2(wait))] = wait


class Portfolio:
    """Draws the schedules of one search, for so many workers. ``deaths``: the ways in which workers may die; ``slow``:
    the seconds by which it may hold up workers and replies in one run.

    ``drew``: the last schedule was drawn at random from the whole distribution. The fixed ones were not, nor are those
    that try each preemption alone: they are no sample of anything.
    """

    def __init__(self, workers: int, deaths: Sequence[DeviationKind] = (), slow: float = SLOW_SECONDS) -> None:
        self._workers = workers
        self._deaths = deaths
        self._slow = slow
        self._drawn = 0
        self._turn = False
        self._suspensions: list[Schedule] | None = None
        self.drew: bool = False
        self.known: Knowledge = Knowledge(slow * _LONGEST)
        self._magnitudes = log10(max(1.0, self.known.longest))

    def next(self, random: Random) -> Schedule:
        """The next schedule of the search."""
        self._drawn += 1
        self.drew = False
        if self._drawn <= len(OPENING):
            return Schedule(latency=self._stretched(OPENING[self._drawn - 1]))
        if self.known.points:
            self._turn = not self._turn
            if self._turn:
                self._drawn -= 1
                return self._preempting(random)
        if self._drawn <= len(OPENING) + len(EARLY):
            order, latency, scale = EARLY[self._drawn - len(OPENING) - 1]
            return self._made(random, order, self._stretched(latency), self._in_proportion(scale))
        if self._drawn % _EACH_SUSPENSION == 0 and (suspended := self._suspending(random)) is not None:
            return suspended
        self.drew = True
        return self.draw(random)

    def _preempting(self, random: Random) -> Schedule:
        """One with preemptions: each point alone, and then some of them in any schedule."""
        points = self.known.points
        alone = points.alone(random)
        if alone is not None:  # whoever is to meet a request that is under way needs it to take a while
            latency = self._stretched(OPENING[0]) if alone.length == UNTIL_LEG else Latency()
            return Schedule(deviations=(alone,), latency=latency)
        self.drew = True
        return points.among(random, DEFAULT_ORDER if random.random() < 0.5 else self.draw(random))

    def _suspending(self, random: Random) -> Schedule | None:
        """The next one in which a worker goes on no more from some decision on, as every lease has to survive."""
        if self._suspensions is None and self.known.timed and self._slow:
            places = [(at, worker) for at in range(self.known.timed) for worker in range(self._workers)]
            chosen = random.sample(places, min(len(places), _MOST_SUSPENSIONS))
            self._suspensions = [
                Schedule(deviations=(Deviation(at, "freeze", worker, FOR_GOOD),)) for at, worker in chosen
            ]
        return self._suspensions.pop() if self._suspensions else None

    def _stretched(self, latency: Latency) -> Latency:
        return replace(latency, milliseconds=self._in_proportion(latency.milliseconds))

    def _in_proportion(self, milliseconds: int) -> int:
        """A time of the tables, for this search."""
        if milliseconds <= 1000:
            return min(milliseconds, int(1000 * self._slow))
        return int(milliseconds * self._slow / SLOW_SECONDS)

    def draw(self, random: Random) -> Schedule:
        """Any schedule."""
        return self.make(random, random.choices(*_ORDERS)[0], random.choices(*_LATENCIES)[0])

    def make(self, random: Random, order: OrderKind, latency: LatencyKind) -> Schedule:
        """A schedule of this kind. Its order and its latency are on one scale: only so can they meet."""
        scale = self._milliseconds(random)
        drawn = Latency(latency, scale) if latency != "none" else Latency()
        return self._made(random, order, drawn, self._pace(random, scale) if order == "paced" else 0)

    def _made(self, random: Random, order: OrderKind, latency: Latency, scale: int) -> Schedule:
        deviations = [self._death(random, what) for what in self._deaths if random.random() < 2 / 3]
        if order == "deviations":
            deviations += [self._deviation(random) for _ in range(random.randint(1, _MOST_DEVIATIONS))]
        if order == "suspended":
            deviations.append(self._suspension(random))
        return Schedule(
            kind=order if order in ("pct", "pos", "paced") else "deviations",
            deviations=tuple(deviations),
            seed=random.randrange(0x10000),
            latency=latency,
            scale=scale,
            reach=self._reach(random) if order in ("pct", "paced") else 0,
        )

    def _deviation(self, random: Random) -> Deviation:
        what = random.choice(_DEVIATIONS)
        if what == "slow":
            return Deviation(random.randrange(max(4, self.known.legs)), what, 0, self._all_or_some(random))
        target = random.randrange(-1, self._workers) if what != "clock" else 0
        return Deviation(random.randrange(self._reach(random)), what, target, random.choice(LENGTHS))

    def _suspension(self, random: Random) -> Deviation:
        """One worker goes on no more: not before nothing else can happen within the time that there is."""
        return Deviation(random.randrange(self._reach(random)), "freeze", random.randrange(self._workers), FOR_GOOD)

    def _death(self, random: Random, what: DeviationKind) -> Deviation:
        return Deviation(random.randrange(self._reach(random)), what, random.randrange(self._workers), 1)

    def _reach(self, random: Random) -> int:
        """The number of decisions before which something is to happen: those of a run, or up to a request."""
        if not self.known.decisions:
            return random.choice(_REACH)
        return 5 + random.choice([self.known.first_leg, self.known.last_leg, self.known.decisions])

    def _all_or_some(self, random: Random) -> int:
        """All the time that there is: whoever says how much may pass has something in mind that lasts as long."""
        return int(1000 * self._slow) if random.random() < 0.3 else self._milliseconds(random)

    def _milliseconds(self, random: Random) -> int:
        """A time: about one for which the body waits itself; or a short one, or a long one."""
        if self.known.waits and random.random() < 0.3:
            seconds = random.choice([*self.known.waits.values()]) * 4 ** random.uniform(-1, 1)
        else:
            seconds = 10 ** (random.uniform(-3, 0) if random.random() < 0.4 else random.uniform(0, self._magnitudes))
        return self._bounded(1000 * seconds)

    def _pace(self, random: Random, scale: int) -> int:
        """What a slow step takes: on the scale of the latency, or much of what time there is, so that leases end."""
        if random.random() < 0.3:
            return self._bounded(1000 * self.known.longest * random.uniform(0.2, 1))
        return self._near(random, scale)

    def _near(self, random: Random, scale: int) -> int:
        if random.random() < 0.4:
            return self._milliseconds(random)
        return self._bounded(scale * 10 ** random.uniform(-1, 1))

    def _bounded(self, milliseconds: float) -> int:
        return max(1, min(int(milliseconds), int(1000 * self.known.longest)))


_ORDERS = (list(ORDERS), list(ORDERS.values()))
_LATENCIES = (list(LATENCIES), list(LATENCIES.values()))
