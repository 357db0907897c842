"""The service's idea of time: the clock of the test or of the machine, plus an offset.

The core never reads a clock by itself: it is handed the reading function, so that real, frozen and simulated time
are one class. Nothing here sleeps. All that this project knows of freezegun is here, too.
"""

from __future__ import annotations

import calendar
import datetime as dt
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "ClockKind", "now", "real_datetime", "real_time", "stopwatch"]

ClockKind = Literal["system", "virtual"]


class Clock:
    """POSIX seconds from ``read``, moved by :meth:`advance`. Without ``read`` they are the system's (:func:`now`)."""

    def __init__(self, read: Callable[[], float] | None = None, *, kind: ClockKind = "system") -> None:
        self._read = now if read is None else read
        self.kind: ClockKind = kind
        self.offset: float = 0.0

    def now(self) -> float:
        """The service's time, in POSIX seconds."""
        return self._read() + self.offset

    def advance(self, seconds: float) -> None:
        """Move the service's time by ``seconds``; a negative number moves it back."""
        self.offset += seconds

    def __repr__(self) -> str:
        return f"<Clock {self.kind} now={self.now():.3f} offset={self.offset:+g}>"


def now() -> float:
    """The system's time in POSIX seconds, or where a test has frozen it with freezegun that one, in every thread.

    ``time.time`` is looked up at each call, so that a tool that replaces it is followed, backwards too. freezegun's own
    one tells the real time to callers that it finds on its ignore list, ``threading`` among them; so a server's thread
    would have a time of its own. And its ticking clock ticks at each reading, which a look of the service's must not
    cause.
    """
    factories: list[Any] = getattr(_freezegun(), "freeze_factories", [])
    try:
        factory = factories[-1]  # another thread may end the freezing at any time
    except IndexError:
        return time.time()
    frozen: dt.datetime = factory.time_to_freeze if hasattr(factory, "step_width") else factory()
    return calendar.timegm(frozen.timetuple()) + frozen.microsecond / 1e6


def real_time(name: str) -> Callable[..., Any]:
    """The function ``time.<name>``, as it was before freezegun replaced it where it has."""
    real: Callable[..., Any] = getattr(_freezegun(), f"real_{name}", None) or getattr(time, name)
    return real


def real_datetime() -> type[dt.datetime]:
    """The class ``datetime.datetime``, as it was before freezegun replaced it where it has."""
    real: type[dt.datetime] = getattr(_freezegun(), "real_datetime", None) or dt.datetime
    return real


def stopwatch() -> Callable[[], float]:
    """A reader of real, monotonic seconds that no time-freezing tool has replaced: it measures waits.

    A frozen clock must not freeze the queue in front of a bearer.
    """
    return real_time("monotonic")


def _freezegun() -> Any:
    """Its module, if the test suite has imported it; it is never imported here."""
    return sys.modules.get("freezegun.api")
