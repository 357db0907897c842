"""The portfolio: which kinds of schedules a search draws, how often, and on what scales.

No single distribution finds everything. What needs two requests to overlap, random latencies find; what needs a worker
to be slow at the right moment, a pace; what needs one exact switch, a deviation. Each schedule draws an order and a
latency from the tables below. Lengths and scales are those of the run at hand, as far as earlier runs have shown them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.schedule import LENGTHS, Deviation, Latency, Schedule

if TYPE_CHECKING:
    from random import Random

    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.simulation.schedule import DeviationKind, LatencyKind

__all__ = ["Knowledge", "Portfolio"]

_REACH = (15, 15, 40, 120)
_KINDS: tuple[DeviationKind, ...] = ("freeze",) * 4 + ("slow",) * 3 + ("alone",) * 2 + ("clock",)
_LONGEST = 50_000


@dataclass(slots=True)
class Knowledge:
    """What earlier runs of the body have shown: how long it is, and how long it waits."""

    decisions: int = 0
    legs: int = 0
    gaps: list[float] = field(default_factory=list)

    def learn(self, outcome: Outcome) -> None:
        """Take note of a run."""
        self.decisions = max(self.decisions, min(outcome.decisions, 400))
        self.legs = max(self.legs, min(outcome.legs, 64))
        if len(self.gaps) < 50:
            self.gaps += [gap for gap in outcome.gaps if gap < 100][:20]


class Portfolio:
    """Draws schedules for so many workers."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.known = Knowledge()
        self.orders = {"default": 2, "facts": 3, "pct": 1, "walk": 1, "paced": 5}
        self.latencies = {"none": 3, "uniform": 5, "same": 1, "heavy": 2, "requests": 1, "replies": 1, "worker": 1}

    def draw(self, random: Random) -> Schedule:
        order = random.choices([*self.orders], [*self.orders.values()])[0]
        latency = random.choices([*self.latencies], [*self.latencies.values()])[0]
        return self.make(random, order, latency)

    def make(self, random: Random, order: str, latency: LatencyKind) -> Schedule:
        lat = Latency(latency, self.milliseconds(random)) if latency != "none" else Latency()
        seed = random.getrandbits(30)
        if order == "default":
            return Schedule(seed=seed, latency=lat)
        if order == "facts":
            facts = tuple(self.fact(random) for _ in range(random.randint(1, 6)))
            return Schedule(seed=seed, latency=lat, deviations=facts)
        if order == "pct":
            return Schedule("pct", seed=seed, latency=lat, reach=max(8, self.known.decisions or 60))
        if order == "walk":
            return Schedule("walk", seed=seed, latency=lat)
        return Schedule(
            "paced",
            seed=seed,
            latency=lat,
            scale=self.milliseconds(random),
            reach=max(8, (self.known.decisions or 60) // self.workers),
        )

    def fact(self, random: Random) -> Deviation:
        what = random.choice(_KINDS)
        if what == "slow":
            return Deviation(random.randrange(max(4, self.known.legs or 12)), what, 0, self.milliseconds(random))
        reach = self.known.decisions or random.choice(_REACH)
        target = random.randrange(-1, self.workers) if what != "clock" else 0
        return Deviation(random.randrange(reach + 4), what, target, random.choice(LENGTHS))

    def milliseconds(self, random: Random) -> int:
        """A time: one that the body waits for itself, more or less; or any."""
        if self.known.gaps and random.random() < 0.5:
            seconds = random.choice(self.known.gaps) * 4 ** random.uniform(-1, 1)
        else:
            seconds = 10 ** random.uniform(-3, 1.7)
        return max(1, min(int(seconds * 1000), _LONGEST))
