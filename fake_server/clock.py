"""The service's idea of time: the clock of the test or of the machine, plus an offset.

The core never reads a clock by itself: it is handed the reading function, so that real, frozen and simulated time
are one class. Nothing here sleeps.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "ClockKind", "stopwatch"]

ClockKind = Literal["system", "virtual"]


class Clock:
    """POSIX seconds from ``read``, moved by :meth:`advance`.

    Without ``read`` it looks ``time.time`` up at each call, so that a tool which replaces that function (freezegun)
    is followed, backwards too.
    """

    def __init__(self, read: Callable[[], float] | None = None, *, kind: ClockKind = "system") -> None:
        self._read = read
        self.kind: ClockKind = kind
        self.offset = 0.0

    def now(self) -> float:
        """The service's time, in POSIX seconds."""
        return (time.time() if self._read is None else self._read()) + self.offset

    def advance(self, seconds: float) -> None:
        """Move the service's time by ``seconds``; a negative number moves it back."""
        self.offset += seconds

    def __repr__(self) -> str:
        return f"<Clock {self.kind} now={self.now():.3f} offset={self.offset:+g}>"


def stopwatch() -> Callable[[], float]:
    """A reader of real, monotonic seconds that no time-freezing tool has replaced: what waits are measured by.

    A frozen clock must not freeze the queue in front of a bearer.
    """
    freezegun = sys.modules.get("freezegun.api")
    read: Callable[[], float] = getattr(freezegun, "real_monotonic", time.monotonic)
    return read
