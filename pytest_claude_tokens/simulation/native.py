"""The real primitives, taken before anything is simulated: what the machinery itself runs on."""

from __future__ import annotations

import _thread
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from fake_server.clock import stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "NATIVE",
    "REAL_DATETIME",
    "REAL_START",
    "allocate_lock",
    "allocate_rlock",
    "monotonic",
    "native",
    "real_sleep",
]

allocate_lock = _thread.allocate_lock
allocate_rlock = threading.RLock
real_sleep = time.sleep
monotonic = stopwatch()
REAL_DATETIME = datetime
REAL_START = threading.Thread.start


class _Native(threading.local):
    depth = 0


NATIVE = _Native()


@contextmanager
def native() -> Iterator[None]:
    """Locks that this thread makes inside are real ones."""
    NATIVE.depth += 1
    try:
        yield
    finally:
        NATIVE.depth -= 1
