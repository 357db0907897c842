"""Schedules a second on one sound dispatcher, ours beside its peers: medians of interleaved repeats.

``python benchmarks/rate.py [--repeats N] [--schedules N] [--workers N] [--only WORD]``. Four workers behind a lock, the
first of which refreshes; the full history is kept and judged. Once with a client that the workers of a schedule share,
once with a client made for each call. The rate by the processor's time is given beside that by the clock: on a machine
with other work the latter says little. Nobody speaks TLS here, and all are spared making contexts for it.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peers import present
from benchmarks.planted import CASES
from benchmarks.searchers import GearOne, Job, Search, search_with

CLIENTS = ("shared", "per-call")
ENDLESS = 3600.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--schedules", type=int, default=500)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    case = CASES["no lock"]
    # frontrun's few schedules in 1.5 s tell its rate: see peers.py.
    searchers = [GearOne(), *(one for one in present(options.only) if "frontrun" not in one.name)]
    measured: dict[tuple[str, str], list[Search]] = defaultdict(list)
    for repeat in range(-1, options.repeats):
        for client in CLIENTS:
            for searcher in searchers:
                number = options.schedules if repeat >= 0 else 20
                search = search_with(
                    searcher, Job(case, case.sound, options.workers, number, ENDLESS, repeat + 1, client)
                )
                if repeat >= 0:
                    measured[searcher.name, client].append(search)
        if repeat < 0:
            gc.collect()
            gc.freeze()  # some searchers collect once a schedule: let them not pay for what the others have loaded
    report([searcher.name for searcher in searchers], measured)
    return 0


def report(names: list[str], measured: dict[tuple[str, str], list[Search]]) -> None:
    """The table, in Markdown."""
    print("\n| searcher | shared client: /s | /s of processor | client per call: /s | /s of processor |")
    print("|---|--:|--:|--:|--:|")
    for name in names:
        cells = [
            f"{statistics.median(getattr(search, rate) for search in measured[name, client]):,.0f}"
            for client in CLIENTS
            for rate in ("rate", "cpu_rate")
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
