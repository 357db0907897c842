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
REAL_IS_ALIVE = threading.Thread.is_alive
REAL_START = threading.Thread.start


class _Native(threading.local):
    depth = 0


NATIVE = _Native()


@contextmanager
def native() -> Iterator[None]:
    """Locks that this thread creates in the block are real ones."""
    NATIVE.depth += 1
    try:
        yield
    finally:
        NATIVE.depth -= 1
