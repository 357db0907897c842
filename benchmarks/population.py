"""How much of a population of dispatchers each searcher finds, ours beside its peers.

``python benchmarks/population.py [--programs N] [--seeds report|tune] [--schedules N] [--seconds S] [--only WORD]
[--fault WORD] [--twins] [--peers] [--threads]``. A dispatcher is made from a seed: a fault of :mod:`benchmarks.faults`,
how its workers arrive, what they do before they ask, how long each local step takes and over how many trips through the
loop it goes, how many workers, accounts and calls there are. Seeds for tuning are even, and those for the report odd.
With ``--threads`` the workers are threads (:mod:`benchmarks.threaded`), which none of the peers can search.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import threaded
from benchmarks.faults import FAULTS, HELD_OUT, Dispatcher, Fault, Site, Step
from benchmarks.peer_searchers import PEERS
from benchmarks.planted import Connect, Login, now
from benchmarks.searchers import Job, Missing, Ours, Peer, Search, search_with

STYLES = ("yield", "timed")
Style = Literal["yield", "timed"]
MARKS = (1, 10, 50, 200)
"""Numbers of schedules after which finds are counted."""
STEPS = {"read": 2, "write": 20, "mkdir": 1, "rmdir": 1, "stat": 1, "think": 5}
"""The local steps, with about how many milliseconds each takes in style *timed*."""


@dataclass(frozen=True)
class Shape:
    """All about a program but its fault. Times in seconds; ``arrivals`` and ``before`` by worker."""

    workers: int
    accounts: int
    calls: int
    steps: dict[str, Step]
    arrivals: tuple[float, ...]
    before: tuple[Step, ...]
    pause: float
    life: float
    patience: float


def arrivals(random: Random, workers: int) -> tuple[float, ...]:
    """When each worker arrives: together, one by one within 90 ms, in two bursts, or one late."""
    match random.randrange(4):
        case 0:
            return (0.0,) * workers
        case 1:
            return (0.0, *(random.randint(1, 9) / 100 for _ in range(1, workers)))
        case 2:
            later = random.choice([0.01, 0.06, 0.3])
            return tuple(later * (number % 2) for number in range(workers))
        case _:
            late = random.choice([0.05, 0.4, 1.5])
            return (*(0.0,) * (workers - 1), late)


def step(random: Random, style: Style, milliseconds: float) -> Step:
    if style == "yield":
        return Step(random.randint(1, 3), 0.0)
    return Step(random.randint(1, 2), random.uniform(0.5, 2) * milliseconds / 1000)


def shape(name: str, fault: Fault, style: Style, seed: int) -> Shape:
    """The shape of the program with this fault and seed."""
    random = Random(f"{name}, {style}, {seed}")
    workers = max(fault.workers, random.choice([2, 3, 3, 4, 5]))
    rounds = max(fault.rounds, random.choice([1, 1, 1, 2]))
    own = [step(random, style, random.choice([1, 10, 60])) for _ in range(workers)]
    return Shape(
        workers=workers,
        accounts=max(fault.accounts, random.choice([1, 1, 2])),
        calls=rounds,
        steps={name: step(random, style, nominal) for name, nominal in STEPS.items()},
        arrivals=arrivals(random, workers),
        before=tuple(one if random.random() < 0.5 else Step(0, 0.0) for one in own),
        pause=random.choice([2.0, 4.0]),
        life=3.0 if rounds > 1 else 28800.0,
        patience=round(random.uniform(*fault.patience), 1),
    )


@dataclass(frozen=True)
class Program:
    """A dispatcher with its workers. It stands in for a :class:`benchmarks.planted.Case`."""

    name: str
    fault: Fault
    shape: Shape

    @property
    def accounts(self) -> int:
        return self.shape.accounts

    @property
    def planted(self) -> type[Dispatcher]:
        return self.fault.planted

    @property
    def sound(self) -> type[Dispatcher]:
        return self.fault.sound

    def jobs(
        self, make: Callable[..., Dispatcher], refreshes: Sequence[str], connect: Connect, workers: int
    ) -> list[Callable[[], Awaitable[object]]]:
        """What each worker has to do. Call it in the running loop."""
        shape = self.shape
        sites = [Site(Login(one), shape.steps, connect, shape.patience, shape.life) for one in refreshes]
        if self.fault.dead:
            for site in sites:
                site.lease = now() - 1000
        pools = [make(sites[0], sites) for _ in range(self.fault.pools or workers)]
        return [self._job(pools[number % len(pools)], number) for number in range(workers)]

    def _job(self, dispatcher: Dispatcher, number: int) -> Callable[[], Awaitable[object]]:
        shape = self.shape

        async def job() -> None:
            if shape.arrivals[number]:
                await asyncio.sleep(shape.arrivals[number])
            for call in range(shape.calls):
                if call:
                    await asyncio.sleep(shape.pause)
                await shape.before[number].take()
                await dispatcher.get()

        return job


def population(names: Iterable[str], seeds: Iterable[int], *, threads: bool = False) -> list[Program]:
    """The programs of these faults, in both styles, from these seeds."""
    faults = threaded.faults() if threads else FAULTS
    kind: Any = threaded.ThreadedProgram if threads else Program
    return [
        kind(f"{name}, {style}, {seed}", faults[name], shape(name, faults[name], style, seed))
        for seed in seeds
        for name in names
        for style in STYLES
    ]


@dataclass
class Row:
    """One searcher: by fault and style the schedules to each find (``None``: missed); and which twins it blamed."""

    numbers: dict[tuple[str, str], list[int | None]] = field(default_factory=lambda: defaultdict(list))
    blamed: list[str] = field(default_factory=list)
    twins: int = 0

    def share(self, within: int, word: str = "") -> float:
        """The share of the searches that found within so many schedules, of the faults and styles with ``word``."""
        every = [one for key, some in self.numbers.items() if word in key or not word for one in some]
        return sum(one is not None and one <= within for one in every) / max(1, len(every))


def measure(searcher: Peer | Ours, program: Program, row: Row, options: argparse.Namespace, seed: int) -> Search:
    """Search a program; every so often its twin, too."""
    name, style, _ = program.name.split(", ")
    budget = (program.shape.workers, options.schedules, options.seconds)
    search = search_with(searcher, Job(program, program.planted, *budget, seed, options.client))
    hit = search.found and search.found <= options.schedules and search.found_seconds <= options.seconds
    # Between two lines the same bug may as well end in a deadlock, and who waits for ever says enough.
    other = search.failed if options.threads else 0
    row.numbers[name, style].append(search.found if hit else other or None)
    if options.twins:
        twin = search_with(searcher, Job(program, program.sound, *budget, seed, options.client))
        row.twins += 1
        if twin.found or twin.blamed:
            row.blamed.append(f"{program.name}: {twin.blamed or 'a double-spend'}")
    return search


def searchers(options: argparse.Namespace) -> list[Peer | Ours]:
    """Ours, and the peers that are installed if they were asked for."""
    here: list[Peer | Ours] = []
    for searcher in (Ours(), *(PEERS if options.peers and not options.threads else ())):
        try:
            searcher.version()
        except Missing as reason:
            print(f"left out: {searcher.name}: {reason}")
        else:
            if any(word in searcher.name for word in options.only.split(";")):
                here.append(searcher)
    return here


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=5, help="of each fault and style")
    parser.add_argument("--seeds", choices=["report", "tune"], default="report")
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--client", choices=["shared", "per-call"], default="shared")
    parser.add_argument("--only", default="", help="searchers with this in their names")
    parser.add_argument("--fault", default="", help="faults with this in their names; 'tuned', 'held out'")
    parser.add_argument("--twins", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--threads", action="store_true", help="the workers are threads; excludes the peers")
    options = parser.parse_args()
    sets = {"tuned": [name for name in FAULTS if name not in HELD_OUT], "held out": list(HELD_OUT)}
    every = threaded.faults() if options.threads else FAULTS
    names = [name for name in every if name in sets.get(options.fault, []) or options.fault in name]
    first = 1 if options.seeds == "report" else 0
    programs = population(names, range(first, first + 2 * options.programs, 2), threads=options.threads)
    here = searchers(options)
    rows = {searcher.name: Row() for searcher in here}
    for seed, program in enumerate(programs):
        for searcher in here:
            measure(searcher, program, rows[searcher.name], options, seed)
    report(rows, names, options.schedules)
    return 1 if Ours.name in rows and rows[Ours.name].blamed else 0


def report(rows: dict[str, Row], names: Sequence[str], budget: int) -> None:
    """The tables, in Markdown."""
    print(f"| searcher | {' | '.join(f'after {mark}' for mark in MARKS)} | yield | timed | twins blamed |")
    print("|---|" + "--:|" * (len(MARKS) + 3))
    for name, row in rows.items():
        shares = [row.share(mark) for mark in MARKS] + [row.share(budget, style) for style in STYLES]
        cells = " | ".join(f"{share:.0%}" for share in shares)
        print(f"| {name} | {cells} | {len(row.blamed)} of {row.twins} |")
    print(f"\n| fault | {' | '.join(rows)} |")
    print("|---|" + "--:|" * len(rows))
    for name in names:
        cells = []
        for row in rows.values():
            for style in STYLES:
                numbers = row.numbers[name, style]
                hits = [one for one in numbers if one is not None]
                median = statistics.median(budget + 1 if one is None else one for one in numbers)
                cells.append(f"{len(hits)}/{len(numbers)}" + (f" ({median:g})" if median <= budget else ""))
        print(f"| {name} | " + " | ".join(", ".join(cells[at : at + 2]) for at in range(0, len(cells), 2)) + " |")
    for name, row in rows.items():
        for text in row.blamed[:5]:
            print(f"{name} blames a twin: {text}")


if __name__ == "__main__":
    sys.exit(main())
