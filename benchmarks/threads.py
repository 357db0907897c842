"""How soon thirteen races between two lines of plain Python are found, in threads, and whether a sound twin is blamed.

``python benchmarks/threads.py [--seeds N] [--twins SCHEDULES] [--only WORD]``. Beside the search, *plain stress*: the
same bodies in real threads, as often, with ``sys.setswitchinterval(1e-6)``. Exits 1 where the search misses a race
within 100 schedules, or blames a twin.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import seed as seeded
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1]))

from pytest_claude_tokens import ClaudeTokens, explore
from pytest_claude_tokens.search.context import ExplorationContext
from tests.zoo.outside import error_of
from tests.zoo.plain_lines import RACES, Race

BUDGETS = (10, 25, 50, 100)
"""Schedules, or runs of plain stress; the last is the most that are tried."""
SWITCH_INTERVAL = 1e-6

Found = int | None
"""The number of the run that has shown a race, from 1; ``None``: none of them has."""


def searched(body: Any, schedules: int, seed: int) -> Found:
    """One search from one seed."""
    test = seeded(seed)(settings(max_examples=schedules, database=None)(explore(workers=2)(body)))
    error = error_of(test, ExplorationContext(seed=seed))
    found = getattr(error, "claude_tokens_found", None)
    if error is not None and found is None:
        raise error
    return None if found is None else int(found.example)


class Threads:
    """``workers`` in real threads. The first error of theirs is raised."""

    def __init__(self, tokens: ClaudeTokens) -> None:
        self.tokens = tokens
        self.errors: list[BaseException] = []

    def __call__(self, job: Callable[[], Any], *, per_worker: int) -> None:
        together = threading.Barrier(2)

        def run(name: str) -> None:
            with self.tokens.worker(name):
                together.wait()
                try:
                    for _ in range(per_worker):
                        job()
                except Exception as error:
                    self.errors.append(error)

        threads = [threading.Thread(target=run, args=[name]) for name in ("w0", "w1")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]


def stressed(body: Any, runs: int) -> Found:
    """The same body in real threads, again and again."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        for number in range(1, runs + 1):
            try:
                with ClaudeTokens() as tokens:
                    body(tokens, Threads(tokens))
            except Exception:
                return number
    finally:
        sys.setswitchinterval(before)
    return None


def row(race: Race, seeds: int, twins: int) -> tuple[str, bool]:
    """The line of one race, and whether the search has done what it must."""
    ours = [searched(race.planted, BUDGETS[-1], seed) for seed in range(seeds)]
    stress = [stressed(race.planted, BUDGETS[-1]) for _ in range(seeds)]
    blamed = sum(searched(race.sound, twins, seed) is not None for seed in range(1 if twins else 0))
    cells = [*told(ours), told(stress)[-1], str(blamed)]
    return f"| {race.name} | {' | '.join(cells)} |", None not in ours and not blamed


def told(found: list[Found]) -> list[str]:
    """How many were found within each budget; the last with the median, where all were."""
    within = [sum(one is not None and one <= budget for one in found) for budget in BUDGETS]
    *fewer, most = (f"{number}/{len(found)}" for number in within)
    numbers = [one for one in found if one is not None]
    return [*fewer, f"{most} ({statistics.median(numbers):g})" if numbers else most]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--twins", type=int, default=100, help="schedules of each sound twin; 0: none")
    parser.add_argument("--only", default="", help="a word of the race's name")
    options = parser.parse_args()
    budgets = " | ".join(f"within {budget}" for budget in BUDGETS)
    print(f"| race | {budgets} | plain stress, {BUDGETS[-1]} | twins blamed |")
    print(f"|---|{'--:|' * (len(BUDGETS) + 2)}", flush=True)
    sound = True
    for race in RACES:
        if options.only in race.name:
            line, as_it_must = row(race, options.seeds, options.twins)
            sound = sound and as_it_must
            print(line, flush=True)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
