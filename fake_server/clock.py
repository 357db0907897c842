"""The service's time: the clock of the test or of the machine, plus an offset.

The core never reads a clock by itself: the reading function is passed in, so that real, frozen and simulated time are
one class. Nothing here sleeps. This is also the only module that knows freezegun.
"""

from __future__ import annotations

import calendar
import datetime as dt
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "DEBUGGED",
    "Clock",
    "ClockKind",
    "Debugged",
    "is_frozen",
    "is_real",
    "now",
    "real_date",
    "real_datetime",
    "real_time",
    "stopwatch",
    "thawed",
]

ClockKind = Literal["system", "virtual"]

_AT_IMPORT: dict[str, Any] = {name: value for name, value in vars(time).items() if callable(value)}
_DATES = {"datetime": dt.datetime, "date": dt.date}
"""Read when the plugin is loaded, before any test can have replaced them: what a test patches is for its own code."""


class Clock:
    """POSIX seconds from ``read``, by default the system's (:func:`now`), plus the offset of :meth:`advance`."""

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
    """The system's time in POSIX seconds; if freezegun has frozen it, the frozen time, in every thread.

    ``time.time`` is looked up at each call, so that any tool that replaces it is followed. freezegun's replacement is
    not called: it returns the real time to modules on its ignore list, ``threading`` among them, so that a server's
    thread would see another time than the test; and with ``auto_tick_seconds`` each reading would advance its clock.
    """
    freezegun = sys.modules.get("freezegun.api")
    last: list[Any] = [] if freezegun is None else getattr(freezegun, "freeze_factories", [])[-1:]
    if not last:  # not asked of the list itself: another thread may unfreeze at any moment
        told: object = time.time()
        return told if isinstance(told, int | float) else float(real_time("time")())  # a mock's answer is no time
    factory = last[0]
    frozen: dt.datetime = factory.time_to_freeze if hasattr(factory, "step_width") else factory()
    return calendar.timegm(frozen.timetuple()) + frozen.microsecond / 1e6


def real_time(name: str) -> Callable[..., Any]:
    """The real function ``time.<name>``, even while freezegun or a test has replaced it."""
    return _real(_AT_IMPORT, name)  # type: ignore[no-any-return]


def is_real(name: str) -> bool:
    """Whether ``time.<name>`` is the real function at present."""
    return getattr(time, name) is real_time(name)


def real_datetime() -> type[dt.datetime]:
    """The real class ``datetime.datetime``, even while freezegun or a test has replaced it."""
    return _real(_DATES, "datetime")  # type: ignore[no-any-return]


def real_date() -> type[dt.date]:
    """The real class ``datetime.date``, even while freezegun or a test has replaced it."""
    return _real(_DATES, "date")  # type: ignore[no-any-return]


def is_frozen(value: Any) -> bool:
    """Whether ``value`` is what freezegun has put in the place of a real thing."""
    return str(getattr(value, "__module__", "")).partition(".")[0] == "freezegun"


@contextmanager
def thawed() -> Iterator[None]:
    """In the block the module ``datetime`` has its real classes, even while freezegun has replaced them.

    Compiled code (cryptography's) takes the classes that it meets first, and keeps them for good.
    """
    frozen = {name: value for name in _DATES if is_frozen(value := getattr(dt, name))}
    for name in frozen:
        setattr(dt, name, _real(_DATES, name))
    try:
        yield
    finally:
        for name, value in frozen.items():
            setattr(dt, name, value)


def _real(known: dict[str, Any], name: str) -> Any:
    value = known[name]
    return getattr(_freezegun(), f"real_{name}") if is_frozen(value) else value


def stopwatch() -> Callable[[], float]:
    """A reader of real, monotonic seconds that no time-freezing tool has replaced, for measuring waits.

    Under a frozen clock the queue of a bearer must still move. Releases of time-machine before 3 change what the
    function ``time.monotonic`` itself does, but of ``clock_gettime`` only what concerns the date.
    """
    return partial(real_time("clock_gettime"), time.CLOCK_MONOTONIC)


class Debugged:
    """For how many real seconds somebody has looked at the stopped program, in a debugger: no deadline counts them."""

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._state: tuple[float | None, float] = (None, 0.0)
        """Since when, if somebody does, and for how long before; one value, as other threads read it at any moment."""

    def begin(self) -> None:
        """The program is stopped, if it is not yet."""
        since, before = self._state
        self._state = (self._read() if since is None else since, before)

    def end(self) -> None:
        """It goes on."""
        self._state = (None, self.seconds())

    def seconds(self) -> float:
        """How long that was, all in all."""
        since, before = self._state
        return before if since is None else before + self._read() - since


DEBUGGED = Debugged(stopwatch())
"""That of this process; whoever knows of a debugger tells it."""


def _freezegun() -> Any:
    """The module of freezegun, if the test suite has imported it; it is never imported here."""
    return sys.modules.get("freezegun.api")
