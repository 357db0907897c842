"""Processes that the code under test has started. They live in real time, which simulated time must not outrun.

Who looks again and again whether a process has ended, or has written a file, would look a thousand times within a
millisecond, and give up after the ten seconds of a simulated clock. So while such a process runs, time that passes for
those who look or sleep takes as long on the machine's clock. A service that each run starts and ends would make its
hours last hours: there is a limit for each run, and one for all runs that waited for nothing that was seen to happen.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fake_server.genuine import os
from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.processes import procfs
from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.interrupts import INTERRUPT
from pytest_claude_tokens.simulation.native import REAL_TIMES, monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["ChildProcesses", "Notes", "noticing_children"]

_EVENTS = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty")
_REAL_SECONDS = 10.0
"""For how long one run waits in real time, in all."""
_VAIN_SECONDS = 20.0
"""The same for those runs of a search, together, in which no process ended and no thread came back meanwhile."""
_SECONDS_AT_ONCE = 1.0
"""The same between two decisions: a watchdog takes a run for stuck that makes none for some seconds."""
_POLL_INTERVAL_SECONDS = 0.002
_SCANS = 10
"""How often a process is looked for that is about to start; it may also fail to."""


class ChildProcesses:
    """Those of one run that still run. ``present``: the ones that had been there before."""

    def __init__(self, present: frozenset[int]) -> None:
        self._present = present
        self._alive: frozenset[int] = frozenset()
        self._scans = 0
        self._left = _REAL_SECONDS
        self.waited: bool = False
        """Whether the run has waited for one, so that its times are real ones."""
        self._came = False

    @property
    def vain_seconds(self) -> float:
        """For how long the run has waited, if nothing was seen to come of it."""
        return 0.0 if self._came else _REAL_SECONDS - self._left

    def expect(self) -> None:
        """One is about to start."""
        self._scans = _SCANS

    def keep_pace(self, seconds: float, is_awaited: Callable[[], bool]) -> None:
        """``seconds`` of simulated time are about to pass: wait as long while one of them runs and ``is_awaited``."""
        begun = now = monotonic()
        until = begun + min(seconds, _SECONDS_AT_ONCE, self._left)
        while now < until and INTERRUPT.error is None and self._any_runs():
            self.waited = True
            REAL_TIMES["sleep"](min(_POLL_INTERVAL_SECONDS, until - now))
            now = monotonic()
            if not is_awaited():
                self._came = True
                break
        self._left -= now - begun

    def _any_runs(self) -> bool:
        if self._scans:
            self._scans -= 1
            found = _children() - self._present
            if found - self._alive:
                self._scans = 0
            self._alive = found
        elif self._alive:
            found = _children(self._alive)
            self._came |= found != self._alive
            self._alive = found
        return bool(self._alive)


@contextmanager
def noticing_children() -> Iterator[None]:
    """In the block, worlds know which processes their threads have started, where the system tells."""
    if not procfs.is_available():
        yield
        return
    note = Notes().note
    audit.subscribe(_EVENTS, note)
    try:
        yield
    finally:
        audit.unsubscribe(_EVENTS, note)


class Notes:
    """What one search knows of the processes of its runs."""

    def __init__(self) -> None:
        self._last: ChildProcesses | None = None
        self._vain_left = _VAIN_SECONDS

    def note(self, event: str, args: tuple[Any, ...]) -> None:
        """A process is about to start."""
        place = here()
        if place is None:
            return
        world, _ = place
        if world.children is None:
            if self._last is not None:
                self._vain_left -= self._last.vain_seconds
                self._last = None
            if self._vain_left <= 0:
                return
            world.children = self._last = ChildProcesses(_children())
        world.children.expect()


def _children(among: Iterable[int] | None = None) -> frozenset[int]:
    """The processes that this one has started and that run, of all or ``among`` these."""
    mine = os.getpid()
    return frozenset(process for process, stat in procfs.running(among).items() if stat.parent == mine)
