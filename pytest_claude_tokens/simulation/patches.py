"""What code under test sees while a body runs: simulated time, locks, threads and randomness.

Patched once around a whole property, not once a run. Every replacement looks first whether the calling thread belongs
to a running world and is the real thing otherwise, so that Hypothesis, pytest and any other thread keep real time.
Names imported with ``from time import …`` are found by a scan of the loaded modules.
"""

from __future__ import annotations

import _thread
import concurrent.futures.thread
import datetime as dt
import os
import queue
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from fake_server.actors import WORKER
from pytest_claude_tokens.simulation.carrier import target
from pytest_claude_tokens.simulation.native import NATIVE, REAL_DATETIME, allocate_lock
from pytest_claude_tokens.simulation.threads import SimulatedLock, here, join_thread, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["patched"]

_OURS = ("pytest_claude_tokens", "fake_server", "hypothesis", "_hypothesis", "pytest", "_pytest", "pluggy", "coverage",
         "xdist", "execnet", "importlib", "_thread", "faulthandler", "freezegun", "respx")  # fmt: skip
_REAL_RLOCK = threading.RLock
_REAL_JOIN = threading.Thread.join
_REAL_ALIVE = threading.Thread.is_alive
_REAL_SUBMIT = concurrent.futures.thread.ThreadPoolExecutor.submit
_REAL_TIME = time.time
_REAL_URANDOM = os.urandom


def _timely(real: Callable[[], Any], simulated: Callable[[Any], Any]) -> Callable[[], Any]:
    def read() -> Any:
        place = here()
        return real() if place is None else simulated(place[0])

    read.__name__ = read.__qualname__ = real.__name__
    return read


def _sleep(seconds: float, /) -> None:
    place = here()
    if place is None:
        _REAL_SLEEP(seconds)
        return
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    place[0].sleep(place[1], seconds)


_REAL_SLEEP = time.sleep


def _lock() -> Any:
    return SimulatedLock() if here() is not None and not NATIVE.depth else allocate_lock()


def _rlock() -> Any:
    if here() is None or NATIVE.depth:
        return _REAL_RLOCK()
    return threading._PyRLock()  # type: ignore[attr-defined]  # the Python one is built on Lock


def _simple_queue() -> Any:
    if here() is None or NATIVE.depth:
        return _REAL_SIMPLE_QUEUE()
    return queue._PySimpleQueue()  # type: ignore[attr-defined]  # the Python one is built on Semaphore


_REAL_SIMPLE_QUEUE = queue.SimpleQueue


def _urandom(size: int, /) -> bytes:
    place = here()
    return _REAL_URANDOM(size) if place is None else place[0].entropy.randbytes(size)


def _is_alive(thread: threading.Thread) -> bool:
    carrier = getattr(thread, "_claude_tokens", None)
    return _REAL_ALIVE(thread) if carrier is None or here() is None else not carrier.done


def _join(thread: threading.Thread, timeout: float | None = None) -> None:
    join_thread(thread, timeout, _REAL_JOIN)


def _submit(executor: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """A pool's job works for the worker that submitted it, not for the one that happened to start the thread."""
    if here() is None:
        return _REAL_SUBMIT(executor, fn, *args, **kwargs)
    worker = WORKER.get()

    def job() -> Any:
        token = WORKER.set(worker)
        place = here()
        if place is not None:
            place[1].target = target(worker)
        try:
            return fn(*args, **kwargs)
        finally:
            WORKER.reset(token)

    return _REAL_SUBMIT(executor, job)


class _Telling(type):
    """Lets ``isinstance(x, datetime)`` mean the real class."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, REAL_DATETIME)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, REAL_DATETIME)


class _Datetime(REAL_DATETIME, metaclass=_Telling):
    """``datetime`` whose ``now`` is simulated."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> REAL_DATETIME:  # type: ignore[override]
        place = here()
        return REAL_DATETIME.now(tz) if place is None else REAL_DATETIME.fromtimestamp(place[0].wall(), tz)

    @classmethod
    def utcnow(cls) -> REAL_DATETIME:  # type: ignore[override]
        place = here()
        posix = _REAL_TIME() if place is None else place[0].wall()
        return REAL_DATETIME.fromtimestamp(posix, dt.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> REAL_DATETIME:  # type: ignore[override]
        return cls.now()


def _replacements() -> dict[int, Any]:
    """By the identity of the real thing: what stands for it."""
    pairs: list[tuple[Any, Any]] = [
        (time.time, _timely(time.time, lambda world: world.wall())),
        (time.time_ns, _timely(time.time_ns, lambda world: int(world.wall() * 1e9))),
        (time.monotonic, _timely(time.monotonic, lambda world: world.now)),
        (time.monotonic_ns, _timely(time.monotonic_ns, lambda world: int(world.now * 1e9))),
        (time.perf_counter, _timely(time.perf_counter, lambda world: world.now)),
        (time.perf_counter_ns, _timely(time.perf_counter_ns, lambda world: int(world.now * 1e9))),
        (time.sleep, _sleep),
        (REAL_DATETIME, _Datetime),
        (threading.Lock, _lock),
        (_thread.allocate_lock, _lock),
        (threading.RLock, _rlock),
        (queue.SimpleQueue, _simple_queue),
        (os.urandom, _urandom),
    ]
    return {id(real): fake for real, fake in pairs}


def _scan(replacements: dict[int, Any]) -> list[tuple[dict[str, Any], str, Any]]:
    """Every global of a loaded module that is one of the real things: its namespace, its name, and it."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _OURS:
            continue
        namespace = getattr(module, "__dict__", None)
        if namespace is None:
            continue
        found += [(namespace, key, value) for key, value in list(namespace.items()) if id(value) in replacements]
    return found


@contextmanager
def patched() -> Iterator[None]:
    """Simulated time, locks, threads and randomness for the threads of whichever world is active."""
    replacements = _replacements()
    found = _scan(replacements)
    with ExitStack() as stack:
        for namespace, name, value in found:
            namespace[name] = replacements[id(value)]
            stack.callback(namespace.__setitem__, name, value)
        for owner, name, value in (
            (threading.Thread, "start", start_thread),
            (threading.Thread, "join", _join),
            (threading.Thread, "is_alive", _is_alive),
            (concurrent.futures.thread.ThreadPoolExecutor, "submit", _submit),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        module = concurrent.futures.thread
        stack.callback(setattr, module, "_global_shutdown_lock", module._global_shutdown_lock)
        module._global_shutdown_lock = SimulatedLock()  # type: ignore[assignment]  # it does what a lock does
        yield
