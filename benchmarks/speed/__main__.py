"""How fast it is, beside the tools that people would take instead: one table, and JSON.

``python -m benchmarks.speed [--seconds S] [--repeats N] [--only PART …] [--json FILE]``, from the root of a checkout,
in an environment with ``.[all,test]`` and the peers: ``pip install pytest-httpserver oauthlib``, and ``npm install
oauth2-mock-server mockttp`` in the folder above the one that ``SPEED_NODE_MODULES`` names. All are measured in turn, in
one run, several times; each figure is the median, as the machine may have other work. It judges nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.speed import handles, inprocess, plugin, sockets

PARTS = ("sockets", "in-process", "handles", "plugin")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement over sockets")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.platform()}
    if "sockets" in options.only:
        found["sockets"] = over_sockets(options.repeats, options.seconds)
    if "in-process" in options.only:
        found["in-process"] = in_turn(
            inprocess.WAYS, options.repeats, "µs of processor for a token request in process, through httpx"
        )
    if "handles" in options.only:
        found["handles"] = in_turn(handles.WAYS, options.repeats, "ms of processor")
    if "plugin" in options.only:
        found["plugin"] = in_turn(plugin.WAYS, 6 * options.repeats, "s of processor")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def over_sockets(repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Token requests a second, and a second of the server's processor time, for each server and number of clients."""
    servers = list(sockets.present())
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(repeats):
        for name, _ in servers:
            for clients in sockets.CLIENTS:
                found[name, clients].append(sockets.measure(name, clients, seconds))
    rows = [
        {
            "server": name,
            "version": version,
            "by": by,
            **{str(n): _median(found[name, n], which) for n in sockets.CLIENTS},
        }
        for which, by in enumerate(("clock", "processor"))
        for name, version in servers
    ]
    for by in ("clock", "processor"):
        _print_rates(by, [row for row in rows if row["by"] == by])
    return rows


def _median(pairs: list[tuple[float, float]], which: int) -> float:
    return statistics.median(pair[which] for pair in pairs)


def _print_rates(by: str, rows: list[dict[str, Any]]) -> None:
    print(f"| token requests a second, by the {by} | " + " | ".join(f"{n} clients" for n in sockets.CLIENTS) + " |")
    print("|---|" + "--:|" * len(sockets.CLIENTS))
    for row in rows:
        figures = " | ".join(f"{row[str(n)]:,.0f}" for n in sockets.CLIENTS)
        print(f"| {row['server']} {row['version']} | {figures} |")
    peers = [row for row in rows if row["server"] in sockets.PEERS]
    if peers:
        ratios = [rows[0][str(n)] / max(row[str(n)] for row in peers) for n in sockets.CLIENTS]
        print("| ours / fastest peer | " + " | ".join(f"{ratio:.2f} ×" for ratio in ratios) + " |")
    print(flush=True)


def in_turn(ways: dict[str, Any], repeats: int, unit: str) -> dict[str, float]:
    """The figure of each way, all measured in turn."""
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for name, measure in ways.items():
            figures[name].append(measure())
    medians = {name: statistics.median(values) for name, values in figures.items()}
    print(f"| {unit} | median |\n|---|--:|")
    for name, value in medians.items():
        print(f"| {name} | {value:,.3g} |")
    print(flush=True)
    return medians


if __name__ == "__main__":
    sys.exit(main())
