"""Replays planted bugs in a process of its own, and prints what happened, to the last byte.

``python replaying.py REPEATS`` reads ``{name: token}`` from standard input and writes ``[[name, history], …]``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.zoo.searching import search
from tests.zoo.table import ZOO

ROOT = Path(__file__).parents[2]


def replayed(name: str, token: str) -> str:
    """The history of a replay, with what it was judged to be."""
    pair = ZOO[name]
    error = search(pair, pair.planted, replay=token)
    lines = [event.to_json() for event in error.found.history] if error.found else []
    return "\n".join([f"{type(error.error).__name__}: {error.error}", *lines])


def in_processes(tokens: Mapping[str, str], hash_seeds: Iterable[int], repeats: int) -> list[list[str]]:
    """What ``repeats`` replays in one process for each hash seed came to: names with histories."""
    command = [sys.executable, __file__, str(repeats)]

    def replay(seed: int) -> list[list[str]]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed)}
        done = subprocess.run(
            command, env=environment, input=json.dumps(dict(tokens)), stdout=subprocess.PIPE, text=True, check=True
        )
        results: list[list[str]] = json.loads(done.stdout)
        return results

    with ThreadPoolExecutor(4) as pool:
        return [result for results in pool.map(replay, hash_seeds) for result in results]


def main() -> None:
    tokens = json.load(sys.stdin)
    json.dump([[name, replayed(name, tokens[name])] for name in tokens for _ in range(int(sys.argv[1]))], sys.stdout)


if __name__ == "__main__":
    main()
