"""A process group: whether anything in it is alive, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.processes import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_claude_tokens.processes.reaper import Reaper

__all__ = ["ProcessGroup", "is_alive", "kill", "send", "terminate", "wait_until"]

_POLL_INTERVAL_SECONDS = 0.02
"""Between two looks at a group: no event tells when its last process ends."""


def is_alive(group: int) -> bool:
    """Whether a process of the group runs. One that has ended doesn't, even if its parent has not waited for it yet."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user by now: it can't be ended, and is not waited for
        return False
    try:
        processes = procfs.process_ids()
    except OSError:  # no Linux: what the signal says is all that can be known
        return True
    return any(_is_of(process, group) for process in processes)


def _is_of(process: int, group: int) -> bool:
    try:
        stat = procfs.read_stat(process)
    except (OSError, IndexError):  # it has ended just now; its file may be empty by then
        return False
    return stat.group == group and stat.state not in "ZX"


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is done, but no longer than so many seconds. Says whether it is."""
    until = time.monotonic() + seconds
    while not (finished := done()) and time.monotonic() < until:
        time.sleep(_POLL_INTERVAL_SECONDS)
    return finished


def terminate(group: int, numbers: Iterable[int], seconds: float, done: Callable[[], bool]) -> None:
    """Send each of these signals and wait so long until ``done``; then kill what is left of the group."""
    for number in numbers:
        send(group, number)
        if wait_until(done, seconds):
            break
    kill(group)


def kill(group: int) -> None:
    """End whatever is left in the group."""
    send(group, signal.SIGKILL)


def send(group: int, number: int) -> None:
    """Send a signal to all of the group; nothing happens where it has ended, or is another user's by now."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


class ProcessGroup:
    """A program in a session and a process group of its own, under the eyes of a reaper until :meth:`release`.

    ``options`` are those of ``subprocess.Popen``. Raises ``OSError`` where the program can't be started.
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
        """Whether the program, or anything that it has started in its group, still runs."""
        return is_alive(self.id)

    def has_ended(self) -> bool:
        """Whether the program has ended, and all else in its group. Collects the program's exit status."""
        return self.process.poll() is not None and not self.is_alive()

    def send(self, number: int) -> None:
        """Send a signal to all of it."""
        send(self.id, number)

    def kill(self) -> None:
        """End whatever is left of it."""
        kill(self.id)

    def terminate(self, numbers: Iterable[int], seconds: float, done: Callable[[], bool]) -> None:
        """Send each of these signals and wait so long until ``done``; then kill what is left."""
        terminate(self.id, numbers, seconds, done)

    def release(self) -> None:
        """Nothing of it is left: the reaper need not kill a group whose number may soon be another one's."""
        self._reaper.ended(self.id)
