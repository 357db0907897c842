"""Ours beside its peers, in one run: which of six planted bugs each finds, how soon, and which sound twins it blames.

``python benchmarks/peers.py [--seeds N] [--twin-seeds N] [--schedules N] [--seconds S] [--only WORD]``, in an
environment with the peers that are to be measured (``pip install detangle frontrun simloom simloop``; a peer that is
missing is left out). The searches are interleaved: each seed of each bug goes through all searchers in turn, so that
whatever else the machine does hits all of them.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peer_searchers import PEERS
from benchmarks.planted import CASES
from benchmarks.searchers import Job, Missing, Ours, Peer, search_with


@dataclass
class Row:
    """One searcher: by bug the schedules to each find (``None``: missed); by twin how often it was blamed."""

    numbers: dict[str, list[int | None]] = field(default_factory=lambda: defaultdict(list))
    twins: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    says: dict[str, None] = field(default_factory=dict)

    def found(self) -> tuple[int, int]:
        """Finds, and searches."""
        every = [number for numbers in self.numbers.values() for number in numbers]
        return sum(number is not None for number in every), len(every)

    def blamed(self) -> tuple[int, int]:
        """Sound twins blamed, and searches over sound twins."""
        every = [blamed for twins in self.twins.values() for blamed in twins]
        return sum(every), len(every)


def cell(numbers: list[int | None], budget: int) -> str:
    """``20/20 (3)``: how often found, and the median number of schedules, where most searches found."""
    hits = [number for number in numbers if number is not None]
    median = statistics.median(budget + 1 if number is None else number for number in numbers)
    return f"{len(hits)}/{len(numbers)}" + (f" ({median:g})" if median <= budget else "")


def present(only: str) -> list[Peer | Ours]:
    """The searchers that are installed."""
    here: list[Peer | Ours] = []
    for searcher in (Ours(), *PEERS):
        try:
            version = searcher.version()
        except Missing as reason:
            print(f"left out: {searcher.name}: {reason}")
            continue
        if only in searcher.name:
            here.append(searcher)
            print(f"{searcher.name}: {searcher.package} {version}" if version else searcher.name)
    return here


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--twin-seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--client", choices=["shared", "per-call"], default="shared")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    searchers = present(options.only)
    rows = {searcher.name: Row() for searcher in searchers}
    warm = CASES["no lock"]
    budget = (options.workers, options.schedules, options.seconds)
    for searcher in searchers:
        search_with(searcher, Job(warm, warm.planted, options.workers, 5, 1.0, 0, options.client))
    gc.collect()
    gc.freeze()  # some searchers collect once a schedule: let them not pay for what the others have loaded
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for seed in seeds:
        for name, case in CASES.items():
            for searcher in searchers:
                search = search_with(searcher, Job(case, case.planted, *budget, seed, options.client))
                hit = search.found and search.found <= options.schedules and search.found_seconds <= options.seconds
                rows[searcher.name].numbers[name].append(search.found if hit else None)
                if seed - options.first_seed < options.twin_seeds:
                    twin = search_with(searcher, Job(case, case.sound, *budget, seed, options.client))
                    rows[searcher.name].twins[name].append(bool(twin.found or twin.blamed))
                    rows[searcher.name].says.update(dict.fromkeys(twin.blamed))
        print(f"seed {seed}: " + ", ".join(str(row.found()[0]) for row in rows.values()), flush=True)
    report(rows, options.schedules)
    ours = rows.get(Ours.name)
    return 0 if ours is None or (ours.found()[0] == ours.found()[1] and not ours.blamed()[0]) else 1


def report(rows: dict[str, Row], budget: int) -> None:
    """The table, in Markdown."""
    print("\n| searcher | found | twins blamed | " + " | ".join(CASES) + " |")
    print("|---|--:|--:|" + "--:|" * len(CASES))
    for name, row in rows.items():
        hits, searches = row.found()
        wrong, twins = row.blamed()
        cells = " | ".join(cell(row.numbers[case], budget) for case in CASES)
        print(f"| {name} | {hits}/{searches} = {100 * hits / searches:.0f} % | {wrong}/{twins} | {cells} |")
    for name, row in rows.items():
        for text in list(row.says)[:3]:
            print(f"{name} says of a twin: {text}")


if __name__ == "__main__":
    sys.exit(main())
