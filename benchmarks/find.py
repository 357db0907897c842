"""How soon the search finds six planted bugs, from many seeds, and whether it ever blames their sound twins.

``python benchmarks/find.py [--seeds N] [--workers N] [--schedules N] [--client shared|per-call] [--only WORD]``.
Exits 1 where a bug is missed, is found too late, or a twin is blamed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from hypothesis import seed as seeded
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.planted import CASES, Case, Make, shared
from pytest_claude_tokens import explore
from pytest_claude_tokens.search.context import ExplorationContext, Report
from pytest_claude_tokens.simulation import native
from pytest_claude_tokens.violations import BlindReplay, DoubleSpend
from tests.zoo.outside import error_of

LIMIT = 1.5
"""Seconds of real time in which a search has to find."""


@dataclass(frozen=True)
class Search:
    """What one search came to. ``schedules`` and ``seconds`` are those up to the find, or all of them."""

    found: bool
    schedules: int
    seconds: float
    error: BaseException | None


def search(case: Case, make: Make, *, workers: int, schedules: int, seed: int, client: str) -> Search:
    """Explore one dispatcher from one seed."""
    ends: list[float] = []
    bodies = _threads if getattr(case, "threads", False) else _tasks
    dispatcher = explore(workers=workers)(bodies(case, make, client, ends))
    test = seeded(seed)(settings(max_examples=schedules, database=None)(dispatcher))
    reports: list[Report] = []
    context = ExplorationContext(handle={"allow": ["refresh-storm"]}, seed=seed, reported=reports.append)
    begun = native.monotonic()
    error = error_of(test, context)
    found = getattr(error, "claude_tokens_found", None)
    number = found.example if found is not None else len(ends)
    return Search(isinstance(error, (DoubleSpend, BlindReplay)), number, ends[number - 1] - begun, error)


def _tasks(case: Case, make: Make, client: str, ends: list[float]) -> Callable[..., object]:
    async def dispatcher(claude_tokens: Any, workers: Any) -> None:
        refreshes = [claude_tokens.account(expired=True).refresh_token for _ in range(case.accounts)]
        try:
            if client == "shared":
                async with httpx.AsyncClient() as one:
                    await workers(*case.jobs(make, refreshes, shared(one), len(workers)))
            else:
                await workers(*case.jobs(make, refreshes, httpx.AsyncClient, len(workers)))
        finally:
            ends.append(native.monotonic())  # the real time: in here, that of `time` is simulated

    return dispatcher


def _threads(case: Any, make: Any, client: str, ends: list[float]) -> Callable[..., object]:
    """The same for :class:`benchmarks.threaded.ThreadedProgram`."""

    def dispatcher(claude_tokens: Any, workers: Any) -> None:
        refreshes = [claude_tokens.account(expired=True).refresh_token for _ in range(case.accounts)]
        try:
            if client == "shared":
                with httpx.Client() as one:
                    workers(*case.jobs(make, refreshes, lambda: nullcontext(one), len(workers)))
            else:
                workers(*case.jobs(make, refreshes, httpx.Client, len(workers)))
        finally:
            ends.append(native.monotonic())

    return dispatcher


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--client", choices=["shared", "per-call"], default="shared")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    knobs = {"workers": options.workers, "schedules": options.schedules, "client": options.client}
    cases = {name: case for name, case in CASES.items() if options.only in name}
    search(CASES["no lock"], CASES["no lock"].planted, seed=0, **knobs)  # imports, the TLS context …
    print(f"{'bug':34}{'found':>8}{'median':>8}{'worst':>7}{'worst s':>9}   {'twin blamed':12}{'schedules/s':>12}")
    hits = alarms = 0
    for name, case in cases.items():
        searches = [search(case, case.planted, seed=seed, **knobs) for seed in range(options.seeds)]
        good = [one for one in searches if one.found and one.schedules <= options.schedules and one.seconds <= LIMIT]
        twins = [search(case, case.sound, seed=seed, **knobs) for seed in range(options.seeds)]
        blamed = [one for one in twins if one.error is not None]
        numbers = [one.schedules if one.found else options.schedules + 1 for one in searches]
        rate = options.schedules * len(twins) / sum(one.seconds for one in twins)
        print(
            f"{name:34}{len(good):>5}/{len(searches)}{statistics.median(numbers):>8g}{max(numbers):>7}"
            f"{max(one.seconds for one in searches):>9.2f}   {len(blamed):>2}/{len(twins):<9}{rate:>12,.0f}"
        )
        for one in [one for one in searches if not one.found and one.error is not None] + blamed:
            print(f"    {type(one.error).__name__}: {one.error}")
        hits += len(good)
        alarms += len(blamed)
    wanted = options.seeds * len(cases)
    print(f"{hits} of {wanted} found within {options.schedules} schedules and {LIMIT} s; {alarms} twins blamed")
    return 0 if hits == wanted and not alarms else 1


if __name__ == "__main__":
    sys.exit(main())
