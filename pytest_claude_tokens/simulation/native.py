"""The real time, lock and thread functions, saved before any are simulated: the simulation itself runs on them."""

from __future__ import annotations

import _thread
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fake_server.clock import real_date, real_datetime, real_time, stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "NATIVE",
    "REAL_DATES",
    "REAL_IS_ALIVE",
    "REAL_JOIN",
    "REAL_LOCK",
    "REAL_START",
    "REAL_TIMES",
    "allocate_lock",
    "allocate_rlock",
    "monotonic",
    "native",
]

allocate_lock: Callable[[], _thread.LockType] = _thread.allocate_lock
allocate_rlock = threading.RLock
REAL_LOCK: Any = threading.Lock
monotonic: Callable[[], float] = stopwatch()
REAL_TIMES: dict[str, Callable[..., Any]] = {
    name: real_time(name)  # this module may be imported while freezegun has replaced them
    for name in (
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "gmtime",
        "localtime",
        "ctime",
        "asctime",
        "strftime",
        "clock_gettime",
        "clock_gettime_ns",
        "sleep",
    )
    if hasattr(time, name)  # Windows has no clocks by number
}
REAL_DATES: dict[str, Any] = {"date": real_date(), "datetime": real_datetime()}
"""In a dictionary, like the functions: freezegun replaces the globals of all modules, ours included."""
REAL_START, REAL_JOIN, REAL_IS_ALIVE = threading.Thread.start, threading.Thread.join, threading.Thread.is_alive
_THREADING = vars(threading)
_HOOKS = ("_trace_hook", "_profile_hook")  # of coverage, say: those of the moment
_REAL_NAMES = {name: value for name, value in _THREADING.items() if callable(value) and name not in _HOOKS}


class _Native(threading.local):
    depth = 0


NATIVE = _Native()


@contextmanager
def native() -> Iterator[None]:
    """Threads and locks that this thread creates in the block are real ones, whatever a test has patched.

    ``threading`` looks up its own names, ``Event`` and ``Lock`` among them, when a thread is made and started.
    """
    NATIVE.depth += 1
    replaced = [(name, _THREADING[name]) for name, real in _REAL_NAMES.items() if _THREADING[name] is not real]
    for name, _ in replaced:
        _THREADING[name] = _REAL_NAMES[name]
    try:
        yield
    finally:
        for name, value in replaced:
            _THREADING[name] = value
        NATIVE.depth -= 1
