"""Worker processes: started in the environment of a handle, in a process group of their own, and never left behind."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from fake_server.clock import real_time, stopwatch
from fake_server.genuine import os
from fake_server.secrecy import shown
from pytest_claude_tokens.processes.groups import ProcessGroup
from pytest_claude_tokens.simulation.interrupts import calls_foreign_code

if TYPE_CHECKING:
    from fake_server.server import Server
    from pytest_claude_tokens.processes.reaper import Reaper

__all__ = ["WorkerProcess"]

_FIRST_POLL_SECONDS, _LAST_POLL_SECONDS = 0.0005, 0.05
"""Real seconds between two looks whether a process has ended."""
_KILL_TIMEOUT_SECONDS = 2.0
"""Real seconds that a killed process has to end."""


class WorkerProcess:
    """One process of a worker. Its standard input is empty; its output is kept in full.

    Raises ``OSError`` if the program can't be started.
    """

    def __init__(
        self,
        server: Server,
        arguments: Sequence[str],
        *,
        worker: str,
        environment: Mapping[str, str],
        folder: str,
        reaper: Reaper,
    ) -> None:
        self.worker = worker
        if isinstance(arguments, str | bytes):
            raise TypeError(f"spawn({shown(arguments)}): give a list of words, such as ['bash', '-c', 'echo hi']")
        self.arguments: tuple[str, ...] = tuple(map(os.fspath, arguments))
        if not self.arguments:
            raise ValueError("spawn([]): name a program, and its arguments after it")
        self._server = server
        self._stopwatch, self._sleep = stopwatch(), real_time("sleep")
        # Files and not pipes: output is read after the process has ended, and a full pipe would block it until then.
        self._out: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in close()
        self._err: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - idem
        try:
            self._group = ProcessGroup(
                self.arguments,
                reaper,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                env=dict(environment),
            )
        except BaseException:
            self._out.close()
            self._err.close()
            raise
        self._exit_noted = False
        self._texts: tuple[str, str] | None = None
        # In a search two runs of one schedule must be the same, and no two processes have the same number.
        pid = {} if server.clock.kind == "virtual" else {"pid": self.pid}
        self._note("spawn", program=os.path.basename(self.arguments[0]), **pid)

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its group."""
        return self._group.id

    @property
    def running(self) -> bool:
        """Whether it has not ended. Journals nothing."""
        return self._group.process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; ``None`` while it runs."""
        status = self._group.process.poll()
        if status is not None and not self._exit_noted:
            self._exit_noted = True
            self._note("exit", status=status)
        return status

    @calls_foreign_code
    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns its exit status. Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds.

        They are real seconds, also in a search, and while a test has frozen the time: processes take real time.
        """
        until = None if timeout is None else self._stopwatch() + timeout
        pause = _FIRST_POLL_SECONDS
        while self._group.process.poll() is None:
            if until is not None and self._stopwatch() >= until:
                raise subprocess.TimeoutExpired(self.arguments, timeout or 0.0)
            self._sleep(pause)
            pause = min(2 * pause, _LAST_POLL_SECONDS)
        status = self.returncode
        assert status is not None
        return status

    @property
    def stdout(self) -> str:
        """Its standard output so far."""
        return self._texts[0] if self._texts else _text(self._out)

    @property
    def stderr(self) -> str:
        """Its standard error so far."""
        return self._texts[1] if self._texts else _text(self._err)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process and its group; does nothing if it has ended.

        With SIGKILL, its open requests get an unknown outcome at once, without waiting for their connections to close.
        """
        if self.returncode is None:
            with self._server.lock:
                self._note("kill", signal=signal.Signals(number).name)
                self._group.send(number)
                if number == signal.SIGKILL:
                    self._server.abandon(self.worker, "killed")

    def close(self) -> None:
        """End the process and its group, and keep its output."""
        ended = self.returncode is not None
        self._group.kill()  # even if it has ended: it may have left processes behind in its group
        if not ended:
            self._group.process.wait(_KILL_TIMEOUT_SECONDS)  # not `wait`, in which a signal may raise
            self._note("exit", status=self._group.process.returncode)
            self._exit_noted = True
        self._group.release()
        if self._texts is None:
            self._texts = (_text(self._out), _text(self._err))
            self._out.close()
            self._err.close()

    def _note(self, f: str, **facts: Any) -> None:
        with self._server.lock:
            self._server.journal.note(f, actor=self.worker, **facts)

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"ended with {self.returncode}"
        return f"<WorkerProcess {self.worker} {self.arguments[0]} {state}>"


def _text(file: IO[bytes]) -> str:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode("utf-8", "replace")
