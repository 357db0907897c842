"""The ``tengu_oauth_…`` events: one JSON line each, appended in one write, and their reader.

Two sources give different names to the event of a resolved race, so both are written, one after the other:
``…_token_refresh_lock_race_resolved`` and ``…_token_refresh_race_resolved``.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pytest_claude_tokens.claude.process import Machine

__all__ = ["PREFIX", "Record", "Telemetry", "read", "worker_name"]

PREFIX = "tengu_oauth_"


class Telemetry:
    """Writes one process's events to the file that ``CLAUDE_TOKENS_TELEMETRY`` names; nowhere if it names none."""

    def __init__(self, machine: Machine, session: str) -> None:
        self._machine = machine
        self._path = machine.environ.get("CLAUDE_TOKENS_TELEMETRY")
        self._session = session
        self._worker = worker_name(machine.environ) or f"session-{session[:8]}"

    def emit(self, name: str, **data: Any) -> None:
        """Append the event ``tengu_oauth_NAME``. A file that can't be written never stops the client."""
        if not self._path:
            return
        line = {
            "event": PREFIX + name,
            "worker": self._worker,
            "pid": os.getpid(),
            "session": self._session,
            "t": round(self._machine.now(), 6),
            **data,
        }
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, json.dumps(line).encode() + b"\n")
            finally:
                os.close(fd)


class Record:
    """One event of the file. ``seq`` is its place in the file, from 1; ``data`` holds what else its line says."""

    def __init__(self, seq: int, line: dict[str, Any]) -> None:
        self.seq = seq
        self.event: str = line.pop("event")
        self.worker: str = line.pop("worker")
        self.pid: int | None = line.pop("pid", None)
        self.t: float | None = line.pop("t", None)
        self.data = line

    def __repr__(self) -> str:
        return f"<{self.seq} {self.worker} {self.event}>"


def read(path: str | os.PathLike[str]) -> list[Record]:
    """The events of a file, in order; none where there is no file. Lines that a killed writer tore are left out."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except FileNotFoundError:
        return []
    records = []
    for seq, text in enumerate(lines, 1):
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            records.append(Record(seq, json.loads(text)))
    return records


def worker_name(environ: Mapping[str, str]) -> str | None:
    """The worker's name: that of ``CLAUDE_TOKENS_WORKER``, or that in the path ``/w/NAME`` of a base URL."""
    name = environ.get("CLAUDE_TOKENS_WORKER")
    if name:
        return name
    for variable in ("ANTHROPIC_BASE_URL", "CLAUDE_TOKENS_TOKEN_URL"):
        path = environ.get(variable, "").partition("://")[2].partition("/")[2]
        if path.startswith("w/"):
            return path[2:].partition("/")[0]
    return None
