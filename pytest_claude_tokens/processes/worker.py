"""Worker processes: started in the environment of a handle, in a process group of their own, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from fake_server.secrecy import shown

if TYPE_CHECKING:
    from fake_server.server import Server

__all__ = ["WorkerProcess"]

_LAST_WORDS = 2.0
"""Seconds of real time that a killed process gets to be gone."""


class WorkerProcess:
    """One process of a worker's. Its standard input is empty; what it writes is kept in full.

    Raises ``OSError`` where the program can't be started.
    """

    def __init__(
        self, server: Server, arguments: Sequence[str], *, worker: str, environment: Mapping[str, str], folder: str
    ) -> None:
        self.worker = worker
        if isinstance(arguments, str | bytes):
            raise TypeError(f"spawn({shown(arguments)}): a list of words is wanted, such as ['bash', '-c', 'echo hi']")
        self.arguments = tuple(map(os.fspath, arguments))
        if not self.arguments:
            raise ValueError("spawn([]): name a program, and its arguments after it")
        self._server = server
        # Files and not pipes: nobody reads while the process runs, and it must never wait for that.
        self._out: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in close()
        self._err: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - idem
        try:
            self._process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                env=dict(environment),
                start_new_session=True,
            )
        except BaseException:
            self._out.close()
            self._err.close()
            raise
        self._told = False
        self._texts: tuple[str, str] | None = None
        self._note("spawn", program=os.path.basename(self.arguments[0]), pid=self.pid)

    @property
    def pid(self) -> int:
        """Its process id, which is the id of its group, too."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended. Journals nothing."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; ``None`` while it runs."""
        status = self._process.poll()
        if status is not None and not self._told:
            self._told = True
            self._note("exit", status=status)
        return status

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, when it has ended. Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""
        self._process.wait(timeout)
        status = self.returncode
        assert status is not None
        return status

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far."""
        return self._texts[0] if self._texts else _text(self._out)

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._texts[1] if self._texts else _text(self._err)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process and all that it has started; nothing happens where it has ended.

        What it has asked for has no known outcome, if it is killed for sure: nobody waits until its connections end.
        """
        if self.returncode is None:
            with self._server.lock:
                self._note("kill", signal=signal.Signals(number).name)
                self._send(number)
                if number == signal.SIGKILL:
                    self._server.abandon(self.worker, "killed")

    def close(self) -> None:
        """End it and whatever it has started, and keep what it has written."""
        if self.returncode is None:
            self._send(signal.SIGKILL)
            self.wait(_LAST_WORDS)
        else:
            self._send(signal.SIGKILL)  # what it may have left behind in its group
        if self._texts is None:
            self._texts = (_text(self._out), _text(self._err))
            self._out.close()
            self._err.close()

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the group has ended
            os.killpg(self.pid, number)

    def _note(self, f: str, **facts: Any) -> None:
        with self._server.lock:
            self._server.journal.note(f, actor=self.worker, **facts)

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"ended with {self.returncode}"
        return f"<WorkerProcess {self.worker} {self.arguments[0]} {state}>"


def _text(file: IO[bytes]) -> str:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode("utf-8", "replace")
