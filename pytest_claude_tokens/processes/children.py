"""The child processes of one handle, the fake ``claude`` on their ``PATH``, and the telemetry that it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_server.genuine import os
from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.processes.reaper import Reaper
from pytest_claude_tokens.processes.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from fake_server.server import Server
    from pytest_claude_tokens.claude.telemetry import Record

__all__ = ["Children"]


class Children:
    """Leaves no process behind: :meth:`close` ends those that still run, and a reaper does so if this process dies.

    ``folder`` returns the handle's own folder, which is created at the first call.
    """

    def __init__(self, server: Server, folder: Callable[[], Path]) -> None:
        self._server = server
        self._folder = folder
        self._started: list[WorkerProcess] = []
        self._reaper = Reaper()
        self.claude: Path | None = None
        """The folder of the fake ``claude``, once it is installed."""

    def install_claude(self) -> Path:
        """Install the fake ``claude`` into a folder for ``PATH``, once; returns that folder."""
        if self.claude is None:
            from pytest_claude_tokens.claude import install

            with audit.muted():
                self.claude = install.install(self._folder() / "bin")
        return self.claude

    def spawn(self, arguments: Sequence[str], *, worker: str, environment: Mapping[str, str]) -> WorkerProcess:
        """Start a program as ``worker``."""
        process = WorkerProcess(
            self._server,
            arguments,
            worker=worker,
            environment=environment,
            folder=str(self._folder()),
            reaper=self._reaper,
        )
        self._started.append(process)
        return process

    def variables(self, worker: str | None, path: str) -> dict[str, str]:
        """Variables to add to a child's environment for the fake ``claude``; ``path`` is its ``PATH`` so far."""
        made = {"CLAUDE_TOKENS_TELEMETRY": self.telemetry_file}
        if worker is not None:
            made["CLAUDE_TOKENS_WORKER"] = worker
        if self.claude is not None:
            made["PATH"] = f"{self.claude}{os.pathsep}{path}"
        return made

    @property
    def telemetry_file(self) -> str:
        """The path of the file to which the fake ``claude`` writes its telemetry events."""
        return str(self._folder() / "telemetry.jsonl")

    def telemetry(self) -> list[Record]:
        """The telemetry events written so far, in order."""
        from pytest_claude_tokens.claude import telemetry

        return telemetry.read(self.telemetry_file)

    def close(self) -> None:
        """End the processes that still run."""
        try:
            for process in self._started:
                process.close()
        finally:
            self._reaper.close()
