"""Process groups: starts a program in one, tells whether anything in it is alive, and ends it."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fake_server.genuine import os, time
from pytest_claude_tokens.processes import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_claude_tokens.processes.reaper import Reaper

__all__ = ["ProcessGroup", "is_alive", "kill", "send", "terminate", "wait_until"]

_POLL_INTERVAL_SECONDS = 0.02
"""Between two checks of a group: no event announces the end of its last process."""


def is_alive(group: int) -> bool:
    """Whether any process of the group runs. A zombie, whose parent has not waited for it yet, does not count."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the number now belongs to another user's group, which we can neither end nor wait for
        return False
    try:
        running = procfs.running()
    except OSError:  # no Linux: only the signal's result is known
        return True
    return any(stat.group == group for stat in running.values())


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``done()``, for at most ``seconds``. Returns whether it is."""
    until = time.monotonic() + seconds
    while not (finished := done()) and time.monotonic() < until:
        time.sleep(_POLL_INTERVAL_SECONDS)
    return finished


def terminate(group: int, numbers: Iterable[int], seconds: float, done: Callable[[], bool]) -> None:
    """Send each signal and wait up to ``seconds`` for ``done()`` after it; then kill what is left of the group."""
    for number in numbers:
        send(group, number)
        if wait_until(done, seconds):
            break
    kill(group)


def kill(group: int) -> None:
    """Send SIGKILL to the group."""
    send(group, signal.SIGKILL)


def send(group: int, number: int) -> None:
    """Send a signal to the whole group; does nothing if it has ended, or its number now belongs to another user."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


class ProcessGroup:
    """A program in a session and a process group of its own, registered with a reaper until :meth:`release`.

    ``options`` are those of ``subprocess.Popen``. Raises ``OSError`` if the program can't be started.
    """

    def __init__(self, arguments: Sequence[str], reaper: Reaper, **options: Any) -> None:
        reaper.start()
        self._reaper = reaper
        self.process: subprocess.Popen[bytes] = subprocess.Popen(arguments, start_new_session=True, **options)
        reaper.begun(self.id)

    @property
    def id(self) -> int:
        """The number of the group, which is the process id of the program."""
        return self.process.pid

    def is_alive(self) -> bool:
        """Whether the program, or any process of its group, still runs."""
        return is_alive(self.id)

    def has_ended(self) -> bool:
        """Whether the program and its whole group have ended. Collects the program's exit status."""
        return self.process.poll() is not None and not self.is_alive()

    def send(self, number: int) -> None:
        """Send a signal to the whole group."""
        send(self.id, number)

    def kill(self) -> None:
        """Send SIGKILL to the whole group."""
        kill(self.id)

    def terminate(self, numbers: Iterable[int], seconds: float, done: Callable[[], bool]) -> None:
        """Send each signal and wait up to ``seconds`` for ``done()`` after it; then kill what is left."""
        terminate(self.id, numbers, seconds, done)

    def release(self) -> None:
        """Unregister an ended group from the reaper, which might otherwise kill a later group with the same number."""
        self._reaper.ended(self.id)
