"""What threads of a world are told about the time, and the sources of chance that they draw from.

Each stand-in takes the place of a function for as long as a search lasts. It behaves as the original for all other
threads. A module that is first imported in a body may keep one, in a class or as a default argument, say: so it binds
to no instance, as the original doesn't, and it is pickled and copied by the original's public name.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import os
import random
import sys
import time
from types import MethodType
from typing import TYPE_CHECKING, Any

from fake_server.clock import is_frozen
from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.looks import looking, sleeping
from pytest_claude_tokens.simulation.native import REAL_DATES, REAL_TIMES
from pytest_claude_tokens.simulation.scheduler import EPOCH
from pytest_claude_tokens.simulation.timeouts import checked_timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.world import World

__all__ = ["DATE_METHODS", "reseed", "stand_in", "stand_ins"]

_SEED, _SEED_ALL = random.Random.seed, random.seed
_URANDOM = os.urandom
_NEW_LOOP = asyncio.new_event_loop


class _Module:
    """What a stand-in is bound to: it is pickled and copied as the module in which the original has its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self._name,)


def stand_in(real: Any, function: Callable[..., Any]) -> Any:
    """``function`` in the place of ``real``, and under its name. Its first argument says where that name is."""
    function.__name__ = function.__qualname__ = real.__name__
    function.__doc__ = real.__doc__
    return MethodType(function, _Module(getattr(real, "__module__", None) or "time"))


# Clocks.

_CLOCKS: dict[str, Callable[[World], Any]] = {
    "time": lambda world: world.wall(),
    "time_ns": lambda world: int(EPOCH) * 1_000_000_000 + round(world.now * 1e9),
    "monotonic": lambda world: world.now,
    "monotonic_ns": lambda world: round(world.now * 1e9),
    "perf_counter": lambda world: world.now,
    "perf_counter_ns": lambda world: round(world.now * 1e9),
}
_WALL = frozenset(getattr(time, name, None) for name in ("CLOCK_REALTIME", "CLOCK_TAI")) - {None}
_ELAPSED = frozenset(
    getattr(time, name, None) for name in ("CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_BOOTTIME", "CLOCK_UPTIME")
) - {None}  # fmt: skip


_STOPWATCHES = frozenset(("urllib3.util.timeout", "google.auth.transport.requests"))
"""Modules of clients that measure how long a request takes: seconds in which a worker is suspended do not count."""


def _clock(real: Callable[[], Any], simulated: Callable[[World], Any]) -> Callable[..., Any]:
    def read(module: object) -> Any:
        place = looking()
        if place is None:
            return real()
        told = simulated(place[0])
        if sys._getframe(1).f_globals.get("__name__") in _STOPWATCHES:
            told -= place[0].patience.stood
        return told

    return read


def _calendar(real: Callable[..., Any]) -> Callable[..., Any]:
    """For ``gmtime``, ``localtime`` and ``ctime``, which take the present time without an argument."""

    def read(module: object, seconds: float | None = None, /) -> Any:
        place = here() if seconds is None else None
        return real(seconds if place is None else place[0].wall())

    return read


def _written(real: Callable[..., str]) -> Callable[..., str]:
    """For ``asctime`` and ``strftime``, whose last argument is the present time by default."""
    least = int(real.__name__ == "strftime")

    def write(module: object, *args: Any) -> str:
        place = here() if len(args) == least else None
        return real(*args) if place is None else real(*args, REAL_TIMES["localtime"](place[0].wall()))

    return write


def _by_number(real: Callable[[int], Any], *, nanoseconds: bool) -> Callable[..., Any]:
    """For ``clock_gettime``. The clocks of processors stay real: they measure work, not time."""
    unit = "_ns" if nanoseconds else ""
    wall, elapsed = _CLOCKS[f"time{unit}"], _CLOCKS[f"monotonic{unit}"]

    def read(module: object, clock: int, /) -> Any:
        place = looking()
        if place is None or clock not in _WALL | _ELAPSED:
            return real(clock)
        return (wall if clock in _WALL else elapsed)(place[0])

    return read


def _sleep(real: Callable[[float], None]) -> Callable[..., None]:
    def sleep(module: object, seconds: float, /) -> None:
        place = sleeping()
        if place is None:
            real(seconds)
            return
        if (length := checked_timeout(seconds)) < 0:
            raise ValueError("sleep length must be non-negative")
        place[0].sleep(place[1], length)

    return sleep


def _urandom(real: Callable[[int], bytes]) -> Callable[..., bytes]:
    def urandom(module: object, size: int, /) -> bytes:
        place = here()
        return real(size) if place is None else place[0].entropy.randbytes(size)

    return urandom


def _new_event_loop(real: Callable[[], Any]) -> Callable[..., Any]:
    def new_event_loop(module: object) -> Any:
        place = here()
        return real() if place is None else place[0].new_loop()

    return new_event_loop


def reseed(generator: random.Random, a: Any = None, version: int = 2) -> None:
    """``Random.seed``, by chance of the world where no seed is given."""
    place = here() if a is None else None
    _SEED(generator, a if place is None else place[0].entropy.getrandbits(256), version)


def _makers() -> dict[str, Callable[[Any], Callable[..., Any]]]:
    """For each name in ``time``, what makes the function of its stand-in from the real one."""
    made: dict[str, Callable[[Any], Callable[..., Any]]] = {
        name: lambda real, simulated=simulated: _clock(real, simulated)  # type: ignore[misc]  # mypy infers no default
        for name, simulated in _CLOCKS.items()
    }
    made |= dict.fromkeys(("gmtime", "localtime", "ctime"), _calendar)
    made |= dict.fromkeys(("asctime", "strftime"), _written)
    made["clock_gettime"] = lambda real: _by_number(real, nanoseconds=False)
    made["sleep"] = _sleep
    made["clock_gettime_ns"] = lambda real: _by_number(real, nanoseconds=True)
    return made


_MAKERS = _makers()


def stand_ins() -> list[tuple[Any, Any]]:
    """Each real function with its stand-in. What freezegun has put in the place of a real one gets the same.

    What a test has put there stays: it is meant for the code under test.
    """
    pairs: list[tuple[Any, Any]] = [
        (_URANDOM, stand_in(_URANDOM, _urandom(_URANDOM))),
        (_NEW_LOOP, stand_in(_NEW_LOOP, _new_event_loop(_NEW_LOOP))),
        (_SEED_ALL, MethodType(reseed, _SEED_ALL.__self__)),  # type: ignore[attr-defined]  # it is a method
    ]
    for name, real in REAL_TIMES.items():
        fake = stand_in(real, _MAKERS[name](real))
        pairs.append((real, fake))
        if is_frozen(present := getattr(time, name)):
            pairs.append((present, fake))
    frozen = [(getattr(dt, name), real) for name, real in REAL_DATES.items()]
    return [*pairs, *((value, real) for value, real in frozen if is_frozen(value))]


# Dates. `now` and `utcnow` read the clock in C, and so may `today`.


def _date_methods() -> dict[type, dict[str, Any]]:
    moment, day = REAL_DATES["datetime"], REAL_DATES["date"]
    now, utcnow, today = vars(moment)["now"], vars(moment)["utcnow"], vars(day)["today"]

    def simulated_now(cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
        place = looking()
        return now.__get__(None, cls)(tz) if place is None else cls.fromtimestamp(place[0].wall(), tz)

    def simulated_utcnow(cls: type[dt.datetime]) -> dt.datetime:
        place = looking()
        if place is None:
            return utcnow.__get__(None, cls)()  # type: ignore[no-any-return]
        return cls.fromtimestamp(place[0].wall(), dt.UTC).replace(tzinfo=None)

    def simulated_today(cls: type[dt.date]) -> dt.date:
        place = looking()
        return today.__get__(None, cls)() if place is None else cls.fromtimestamp(place[0].wall())

    for real, function in ((now, simulated_now), (utcnow, simulated_utcnow), (today, simulated_today)):
        function.__name__, function.__qualname__, function.__doc__ = real.__name__, real.__qualname__, real.__doc__
    return {
        moment: {"now": classmethod(simulated_now), "utcnow": classmethod(simulated_utcnow)},
        day: {"today": classmethod(simulated_today)},
    }


DATE_METHODS = _date_methods()
"""For ``datetime`` and ``date``, the methods that tell simulated time to the threads of a world."""
