"""A process group: whether anything in it still runs, and its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

__all__ = ["end", "kill", "runs", "wait"]

_PROC = "/proc"
_TICK = 0.02
"""Seconds between two looks at a group: nothing tells when its last process ends."""


def runs(group: int) -> bool:
    """Whether a process of the group runs. One that has ended, and that its parent has not asked for yet, doesn't."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user by now: it can't be ended, and is not waited for
        return False
    try:
        processes = [name for name in os.listdir(_PROC) if name.isdigit()]
    except OSError:  # no Linux: the signal's word must do
        return True
    return any(_is_of(name, group) for name in processes)


def _is_of(process: str, group: int) -> bool:
    try:
        with open(os.path.join(_PROC, process, "stat"), "rb") as file:
            state, _, of, *_ = file.read().rpartition(b")")[2].split()  # a program's name may hold anything
    except (OSError, ValueError):  # it has ended just now
        return False
    return int(of) == group and state not in (b"Z", b"X")


def wait(done: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is done, but no longer than so many seconds. Says whether it is."""
    until = time.monotonic() + seconds
    while not (finished := done()) and time.monotonic() < until:
        time.sleep(_TICK)
    return finished


def end(group: int, numbers: Iterable[int], seconds: float, done: Callable[[], bool]) -> None:
    """Send each of these signals and wait so long until ``done``; then kill what is left. No one is spared."""
    for number in numbers:
        _send(group, number)
        if wait(done, seconds):
            break
    kill(group)


def kill(group: int) -> None:
    """End whatever is left in the group."""
    _send(group, signal.SIGKILL)


def _send(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
