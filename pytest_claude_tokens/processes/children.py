"""The processes of one handle: those that it started, the programs that they find, the events that they wrote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.processes.reaper import Reaper
from pytest_claude_tokens.processes.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fake_server.server import Server
    from pytest_claude_tokens.claude.telemetry import Record
    from pytest_claude_tokens.handle.endpoints import LocalEndpoints

__all__ = ["Children"]


class Children:
    """Leaves no process behind: :meth:`close` ends those that still run, and the death of this process does, too."""

    def __init__(self, server: Server, endpoints: LocalEndpoints) -> None:
        self._server = server
        self._endpoints = endpoints
        self._started: list[WorkerProcess] = []
        self._reaper = Reaper()
        self.claude: Path | None = None
        """The folder with the fake ``claude``, once it is there."""

    def install_claude(self) -> Path:
        """Put the fake ``claude`` into a folder for ``PATH``; the second time, the same one."""
        if self.claude is None:
            from pytest_claude_tokens.claude import install

            with audit.muted():
                self.claude = install.install(self._endpoints.folder / "bin")
        return self.claude

    def spawn(self, arguments: Sequence[str], *, worker: str, environment: Mapping[str, str]) -> WorkerProcess:
        """Start a program as ``worker``."""
        process = WorkerProcess(
            self._server,
            arguments,
            worker=worker,
            environment=environment,
            folder=str(self._endpoints.folder),
            reaper=self._reaper,
        )
        self._started.append(process)
        return process

    def variables(self, worker: str | None, path: str) -> dict[str, str]:
        """What is added to a child's environment for the fake ``claude``; ``path`` is its ``PATH`` so far."""
        made = {"CLAUDE_TOKENS_TELEMETRY": self.telemetry_file}
        if worker is not None:
            made["CLAUDE_TOKENS_WORKER"] = worker
        if self.claude is not None:
            made["PATH"] = f"{self.claude}{os.pathsep}{path}"
        return made

    @property
    def telemetry_file(self) -> str:
        """Where the fake ``claude`` writes its events."""
        return str(self._endpoints.folder / "telemetry.jsonl")

    def telemetry(self) -> list[Record]:
        """The events that were written so far, in order."""
        from pytest_claude_tokens.claude import telemetry

        return telemetry.read(self.telemetry_file)

    def close(self) -> None:
        """End what still runs."""
        try:
            for process in self._started:
                process.close()
        finally:
            self._reaper.close()
