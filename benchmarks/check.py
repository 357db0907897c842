"""The time and the memory that the judge needs for a long history: ``claude-tokens check`` in a process of its own.

``python benchmarks/check.py [OPERATIONS …] [--every N]``. The history is valid: eight clients, each with a grant of its
own, call the service, and refresh after each N calls, as their access token has expired. Exits 1 where it is not
judged VALID.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fake_server.core.journal import promise
from fake_server.events import Event

CLIENTS = 8


class Writer:
    """Numbers the events of a history, and makes its lines."""

    def __init__(self) -> None:
        self.seq = self.op = 0

    def line(self, kind: Any, f: str, *, actor: str = "service", **known: Any) -> str:
        """The line of the next event."""
        self.seq += 1
        return Event(seq=self.seq, t=self.seq / 1000, actor=actor, type=kind, f=f, **known).to_json() + "\n"


def lines(operations: int, every: int) -> Iterator[str]:
    """The lines of the history."""
    header = {"clock": {"kind": "system"}, "policy": {"name": "anthropic"}}
    yield promise(Event(seq=0, t=0.0, actor="service", type="header", f="header", data=header)).to_json() + "\n"
    writer = Writer()
    whose = [{"account": f"a{number + 1}", "grant": f"g#{number + 1}"} for number in range(CLIENTS)]
    for who in whose:
        pair = {"access": "at#1", "refresh": "rt#1"}
        yield writer.line("note", "login", issued=pair, data={"expires": 1e9, "accepts": ["rt#1"]}, **who)
    age, generation = [0] * CLIENTS, [1] * CLIENTS
    while writer.op < operations:
        client = writer.op % CLIENTS
        writer.op += 1
        about = {"actor": f"w{client}", "op": writer.op}
        if age[client] < every:
            age[client] += 1
            yield from call(writer, {**about, **whose[client], "bearer": f"at#{generation[client]}"})
        else:
            age[client] = 0
            generation[client] += 1
            yield from refresh(writer, about, whose[client], generation[client])
    ends = {who["grant"]: {"accepts": [f"rt#{generation[n]}"], "stores": []} for n, who in enumerate(whose)}
    yield writer.line("note", "end", data={"grants": ends})


def call(writer: Writer, about: dict[str, Any]) -> Iterator[str]:
    """A call that is answered."""
    asked = {"method": "POST", "path": "/v1/messages", "host": "127.0.0.1", "stream": False}
    yield writer.line("invoke", "call", data=asked, **about)
    yield writer.line("ok", "call", status=200, data={"committed": True}, **about)


def refresh(writer: Writer, about: dict[str, Any], whose: dict[str, str], generation: int) -> Iterator[str]:
    """The end of an access token, and the refresh that follows."""
    spent, pair = f"rt#{generation - 1}", {"access": f"at#{generation}", "refresh": f"rt#{generation}"}
    yield writer.line("note", "expire", data={"ended": [f"at#{generation - 1}"], "accepts": [spent]}, **whose)
    asked = {"method": "POST", "path": "/v1/oauth/token", "host": "127.0.0.1", "grant_type": "refresh_token"}
    yield writer.line("invoke", "token", refresh=spent, data={**asked, "encoding": "json"}, **about, **whose)
    facts = {"outcome": "rotated", "expires": 1e9, "accepts": [pair["refresh"]]}
    yield writer.line("note", "commit", op=about["op"], refresh=spent, issued=pair, data=facts, **whose)
    yield writer.line("ok", "token", refresh=spent, issued=pair, status=200, data={"committed": True}, **about, **whose)


def check(path: Path) -> tuple[str, float, float]:
    """The verdict of ``claude-tokens check``, its seconds of processor time, and its resident set at most, in MiB."""
    command = [sys.executable, "-m", "pytest_claude_tokens", "check", "--json", str(path)]
    out = path.with_suffix(".verdict")
    with out.open("wb") as file:
        process = os.posix_spawn(
            command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), 1)]
        )
        _, _, used = os.wait4(process, 0)
    return json.loads(out.read_bytes())["verdict"], used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operations", nargs="*", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--every", type=int, default=1000, help="calls of a client between two refreshes")
    options = parser.parse_args()
    verdicts = set()
    with tempfile.TemporaryDirectory() as folder:
        for operations in options.operations:
            path = Path(folder) / f"{operations}.jsonl"
            with path.open("w") as file:
                file.writelines(lines(operations, options.every))
            verdict, seconds, mebibytes = check(path)
            verdicts.add(verdict)
            print(f"{operations:>9,} operations: {verdict}, {seconds:.1f} s of processor time, {mebibytes:.0f} MiB")
    return 0 if verdicts == {"VALID"} else 1


if __name__ == "__main__":
    sys.exit(main())
