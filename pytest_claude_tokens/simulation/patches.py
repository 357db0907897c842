"""Replaces time, locks, threads and randomness by simulated ones while a body runs.

Patched once around a whole property, not once per run. Every replacement checks whether the calling thread belongs to
a running world, and behaves as the original if not, so that Hypothesis, pytest and all other threads keep real time.
Names imported with ``from time import …`` are found by a scan of the loaded modules.
"""

from __future__ import annotations

import _thread
import asyncio
import copyreg
import datetime as dt
import logging
import os
import queue
import random
import sys
import threading
import time
from concurrent.futures.thread import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.internals import (
    FUTURES_LOGGER,
    PurePythonSimpleQueue,
    like,
    shutdown_lock_replaced,
    was_shut_down,
)
from pytest_claude_tokens.simulation.locks import SimulatedLock, SimulatedRLock
from pytest_claude_tokens.simulation.looks import looking, sleeping
from pytest_claude_tokens.simulation.native import NATIVE, REAL_DATETIME, REAL_TIMES, allocate_lock
from pytest_claude_tokens.simulation.preexisting_locks import preexisting_locks
from pytest_claude_tokens.simulation.scheduler import EPOCH
from pytest_claude_tokens.simulation.thread_record import Stopped, worker_number
from pytest_claude_tokens.simulation.threads import join_thread, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_claude_tokens.simulation.world import World

__all__ = ["patched"]

_OURS = ("pytest_claude_tokens", "fake_server", "hypothesis", "_hypothesis", "pytest", "_pytest", "pluggy", "coverage",
         "xdist", "execnet", "importlib", "_thread", "faulthandler", "freezegun", "respx")  # fmt: skip
_REAL_RLOCK = threading.RLock
_REAL_JOIN = threading.Thread.join
_REAL_ALIVE = threading.Thread.is_alive
_REAL_INIT = ThreadPoolExecutor.__init__
_REAL_SUBMIT = ThreadPoolExecutor.submit
_REAL_SLEEP = time.sleep
_REAL_SIMPLE_QUEUE = queue.SimpleQueue
_REAL_URANDOM = os.urandom
_REAL_SEED = random.Random.seed
_REAL_NEW_LOOP = asyncio.new_event_loop


def _time_function(real: Callable[..., Any], simulated: Callable[[World], Any]) -> Callable[[], Any]:
    def read() -> Any:
        place = looking()
        return real() if place is None else simulated(place[0])

    read.__name__ = read.__qualname__ = real.__name__
    return read


def _calendar_function(real: Callable[..., time.struct_time]) -> Callable[..., time.struct_time]:
    def read(seconds: float | None = None, /) -> time.struct_time:
        place = here() if seconds is None else None
        return real(seconds if place is None else place[0].wall())

    read.__name__ = read.__qualname__ = real.__name__
    return read


def _sleep(seconds: float, /) -> None:
    place = sleeping()
    if place is None:
        _REAL_SLEEP(seconds)
        return
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    place[0].sleep(place[1], seconds)


def _lock() -> Any:
    return SimulatedLock() if here() is not None and not NATIVE.depth else allocate_lock()


def _rlock() -> Any:
    if here() is None or NATIVE.depth:
        return _REAL_RLOCK()
    return SimulatedRLock()


def _simple_queue() -> Any:
    if here() is None or NATIVE.depth:
        return _REAL_SIMPLE_QUEUE()
    return _SimpleQueue()


class _SimpleQueue(PurePythonSimpleQueue):  # type: ignore[misc]  # it has no known type
    """A queue whose ``put`` works even after its world has ended: a thread pool calls it when it is collected."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        with suppress(Stopped):
            super().put(item, block, timeout)


def _urandom(size: int, /) -> bytes:
    place = here()
    return _REAL_URANDOM(size) if place is None else place[0].entropy.randbytes(size)


def _is_alive(thread: threading.Thread) -> bool:
    record = getattr(thread, "_claude_tokens", None)
    return _REAL_ALIVE(thread) if record is None or here() is None else not record.done


def _join(thread: threading.Thread, timeout: float | None = None) -> None:
    join_thread(thread, timeout, _REAL_JOIN)


def _executor_init(executor: Any, *args: Any, **kwargs: Any) -> None:
    _REAL_INIT(executor, *args, **kwargs)
    place = here()
    executor._claude_tokens = None if place is None else place[0].serial


def _submit(executor: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run a pool's job for the worker that submitted it, not for the one that happened to start the thread."""
    place = here()
    if place is None:
        return _REAL_SUBMIT(executor, fn, *args, **kwargs)
    worker = WORKER.get()

    def job() -> Any:
        place = here()
        if place is None:  # the world ended while the pool's thread was blocked outside
            return None
        record = place[1]
        before, record.worker = record.worker, worker_number(worker)
        token = WORKER.set(worker)
        try:
            return fn(*args, **kwargs)
        finally:
            WORKER.reset(token)
            record.worker = before

    return _REAL_SUBMIT(_double(place[0], executor), job)


def _double(world: World, executor: Any) -> Any:
    """A pool with the same settings in place of one from before this world, whose threads don't belong to the world."""
    if was_shut_down(executor) or getattr(executor, "_claude_tokens", None) == world.serial:
        return executor
    found = world.doubles.get(id(executor))
    if found is None:
        found = world.doubles[id(executor)] = (executor, like(executor))
    return found[1]


def _is_not_about_the_end(record: logging.LogRecord) -> bool:
    """Whether a log record of a thread pool is about anything but the end of its world."""
    return record.exc_info is None or record.exc_info[0] is not Stopped


def _seed(generator: random.Random, a: Any = None, version: int = 2) -> None:
    place = here() if a is None else None
    _REAL_SEED(generator, a if place is None else place[0].entropy.getrandbits(256), version)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    place = here()
    return _REAL_NEW_LOOP() if place is None else place[0].new_loop()


class _MeansTheReal(type):
    """Makes the stand-in for ``datetime`` mean the real class in ``isinstance``, ``issubclass`` and comparisons."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, REAL_DATETIME) if cls is _Datetime else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, REAL_DATETIME) if cls is _Datetime else type.__subclasscheck__(cls, subclass)

    def __eq__(cls, other: object) -> bool:
        return other is cls or (cls is _Datetime and other is REAL_DATETIME)

    def __hash__(cls) -> int:
        return hash(REAL_DATETIME) if cls is _Datetime else type.__hash__(cls)


class _Datetime(REAL_DATETIME, metaclass=_MeansTheReal):  # type: ignore[misc,valid-type]  # mypy takes it for a variable
    """``datetime`` whose ``now`` is simulated. Its instances are of the real class."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return REAL_DATETIME.__new__(REAL_DATETIME if cls is _Datetime else cls, *args, **kwargs)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        place = here()
        return super().now(tz) if place is None else cls.fromtimestamp(place[0].wall(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(dt.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


_Datetime.__module__, _Datetime.__name__, _Datetime.__qualname__ = "datetime", "datetime", "datetime"  # to pickle


def _reduce_datetime(value: dt.datetime) -> tuple[Any, ...]:
    """Pickle by the public name, which means the stand-in while patched, and the real class otherwise."""
    return _Datetime, value.__reduce_ex__(4)[1]


def _replacements() -> dict[int, Any]:
    """The replacement of each real object, by the identity of that object. freezegun's fakes are replaced, too."""
    pairs: list[tuple[Any, Any]] = [
        (time.sleep, _sleep),
        (REAL_DATETIME, _Datetime),
        (dt.datetime, _Datetime),
        (threading.Lock, _lock),
        (_thread.allocate_lock, _lock),
        (threading.RLock, _rlock),
        (queue.SimpleQueue, _simple_queue),
        (os.urandom, _urandom),
        (asyncio.new_event_loop, _new_event_loop),
    ]
    for name, simulated in _TIMES.items():
        pairs += [(real, _time_function(real, simulated)) for real in (REAL_TIMES[name], getattr(time, name))]
    for name in ("gmtime", "localtime"):
        pairs += [(real, _calendar_function(real)) for real in (REAL_TIMES[name], getattr(time, name))]
    return {id(real): fake for real, fake in pairs}


_TIMES: dict[str, Callable[[World], Any]] = {
    "time": lambda world: world.wall(),
    "time_ns": lambda world: int(EPOCH) * 1_000_000_000 + round(world.now * 1e9),
    "monotonic": lambda world: world.now,
    "monotonic_ns": lambda world: round(world.now * 1e9),
    "perf_counter": lambda world: world.now,
    "perf_counter_ns": lambda world: round(world.now * 1e9),
}


def _scan(replacements: dict[int, Any]) -> list[tuple[dict[str, Any], str, Any]]:
    """Every global of a loaded module that is to be replaced, as namespace, name and value."""
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
    """In the block, threads of the active world see simulated time, locks, threads and randomness."""
    replacements = _replacements()
    found = _scan(replacements)
    with ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())  # each run seeds it
        stack.enter_context(preexisting_locks(_OURS))
        for namespace, name, value in found:
            namespace[name] = replacements[id(value)]
            stack.callback(namespace.__setitem__, name, value)
        for owner, name, value in (
            (threading.Thread, "start", start_thread),
            (threading.Thread, "join", _join),
            (threading.Thread, "is_alive", _is_alive),
            (ThreadPoolExecutor, "__init__", _executor_init),
            (ThreadPoolExecutor, "submit", _submit),
            (random.Random, "seed", _seed),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        stack.enter_context(shutdown_lock_replaced(SimulatedLock()))
        stack.callback(_restore_reducer, copyreg.dispatch_table.get(REAL_DATETIME))
        copyreg.pickle(REAL_DATETIME, _reduce_datetime)
        FUTURES_LOGGER.addFilter(_is_not_about_the_end)
        stack.callback(FUTURES_LOGGER.removeFilter, _is_not_about_the_end)
        yield


def _restore_reducer(before: Any) -> None:
    del copyreg.dispatch_table[REAL_DATETIME]
    if before is not None:
        copyreg.dispatch_table[REAL_DATETIME] = before
