"""Replaces time, locks, threads and randomness by simulated ones while a body runs.

Patched once around a whole search, not once per run. Every replacement checks whether the calling thread belongs to
a running world, and behaves as the original if not, so that Hypothesis, pytest and all other threads keep real time.
Names imported with ``from time import …`` are found by a scan of the loaded modules.

Nothing of it outlives the search: what a module has taken over that was first imported in a body is put back, too.
"""

from __future__ import annotations

import logging
import sys
from concurrent.futures.thread import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import partial
from queue import SimpleQueue
from random import Random, getstate, setstate
from threading import Thread
from types import BuiltinMethodType, ModuleType
from typing import TYPE_CHECKING, Any

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.captured import captured_replaced
from pytest_claude_tokens.simulation.clocks import DATE_METHODS, reseed, stand_in, stand_ins
from pytest_claude_tokens.simulation.internals import (
    FUTURES_LOGGER,
    like,
    methods_replaced,
    shutdown_lock_replaced,
    was_shut_down,
)
from pytest_claude_tokens.simulation.locks import QuietLock, QuietRLock, SimulatedLock, SimulatedRLock
from pytest_claude_tokens.simulation.native import (
    NATIVE,
    REAL_IS_ALIVE,
    REAL_JOIN,
    REAL_LOCK,
    allocate_lock,
    allocate_rlock,
)
from pytest_claude_tokens.simulation.preexisting_locks import preexisting_locks, real_again
from pytest_claude_tokens.simulation.queues import QUEUE_METHODS, grow_old
from pytest_claude_tokens.simulation.sockets import FUNCTIONS, sockets_simulated
from pytest_claude_tokens.simulation.thread_record import Stopped, worker_number
from pytest_claude_tokens.simulation.threads import join_thread, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from pytest_claude_tokens.simulation.world import World

__all__ = ["patched"]

_OURS = ("pytest_claude_tokens", "fake_server", "hypothesis", "_hypothesis", "pytest", "_pytest", "pluggy", "coverage",
         "xdist", "execnet", "importlib", "_thread", "faulthandler", "freezegun", "respx")  # fmt: skip
_REAL_INIT = ThreadPoolExecutor.__init__
_REAL_SUBMIT = ThreadPoolExecutor.submit


def _lock(module: object = None) -> Any:
    return _lock_for(sys._getframe(1))


def _lock_for(maker: FrameType) -> Any:
    if here() is None or NATIVE.depth:
        return allocate_lock()
    return QuietLock() if _is_for_a_transport(maker) else SimulatedLock()


def _rlock(module: object = None) -> Any:
    if here() is None or NATIVE.depth:
        return allocate_rlock()
    return QuietRLock() if _is_for_a_transport(sys._getframe(1)) else SimulatedRLock()


def _is_for_a_transport(frame: FrameType | None) -> bool:
    """Whether ``frame``, which makes a lock, belongs to a library's connections or cookies, or makes their queue."""
    name = "" if frame is None else frame.f_globals.get("__name__") or ""
    if name == "queue" and frame is not None:
        return _is_for_a_transport(frame.f_back)
    return name == "http.cookiejar" or "urllib3" in name.split(".")


class _MeansTheReal(type):
    """From Python 3.13 on ``threading.Lock`` is a class: its stand-in means the real one wherever a class is asked."""

    def __call__(cls) -> Any:
        return _lock_for(sys._getframe(1))

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, type(allocate_lock()))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, type(allocate_lock()))

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is type(allocate_lock())

    def __hash__(cls) -> int:
        return hash(type(allocate_lock()))


_LockClass = _MeansTheReal("lock", (), {"__module__": "_thread", "__doc__": type(allocate_lock()).__doc__})


def _is_alive(thread: Thread) -> bool:
    record = getattr(thread, "_claude_tokens", None)
    return REAL_IS_ALIVE(thread) if record is None or here() is None else not record.done


def _join(thread: Thread, timeout: float | None = None) -> None:
    join_thread(thread, timeout, REAL_JOIN)


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


def _replacements() -> list[tuple[Any, Any]]:
    """Each real object with what replaces it, wherever a module has it under some name."""
    lock = stand_in(allocate_lock, _lock)
    return [
        *stand_ins(),
        (allocate_lock, lock),
        (REAL_LOCK, _LockClass if isinstance(REAL_LOCK, type) else lock),
        (allocate_rlock, stand_in(allocate_rlock, _rlock)),
        *((real, stand_in(real, fake)) for real, fake in FUNCTIONS),
    ]


def _instead(replacements: Mapping[int, Any], value: Any) -> Any:
    """What stands in for a value that somebody has kept; ``None`` if nothing does."""
    fake = replacements.get(id(value))
    if fake is None and type(value) is BuiltinMethodType and value.__name__ in ("now", "utcnow", "today"):
        owner = value.__self__
        # A method in C that was looked up before: now the class has one that asks the world.
        return getattr(owner, value.__name__) if isinstance(owner, type) and issubclass(owner, date) else None
    return fake


def _names(spared: Mapping[str, Any]) -> Iterator[tuple[str, ModuleType, dict[str, Any]]]:
    """The names of each loaded module that is not among ``spared``, and none of ours."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _OURS and spared.get(name) is not module:
            namespace = getattr(module, "__dict__", None)
            if namespace is not None:
                yield name, module, namespace


def _scan(replacements: Mapping[int, Any]) -> list[tuple[dict[str, Any], str, Any]]:
    """Every global of a loaded module that is to be replaced, as namespace, name and value."""
    found = []
    for _, _, namespace in _names({}):
        found += [(namespace, key, value) for key, value in list(namespace.items()) if id(value) in replacements]
    return found


def _put_back_in_new(known: Mapping[str, Any], real: Mapping[int, Any]) -> None:
    """Give the modules that bodies have imported the real things in place of those that they were given."""
    for name, module, namespace in _names(known):
        for key, value in list(namespace.items()):
            if id(value) in real:
                namespace[key] = real[id(value)]
            elif isinstance(value, type) and value.__module__ == name:
                for attribute, kept in list(vars(value).items()):
                    if id(kept) in real:
                        setattr(value, attribute, real[id(kept)])
        real_again(name, module)


@contextmanager
def patched() -> Iterator[None]:
    """In the block, threads of the active world see simulated time, locks, threads and randomness."""
    pairs = _replacements()
    replacements = {id(real): fake for real, fake in pairs}
    found, known = _scan(replacements), dict(sys.modules)
    grow_old()
    with ExitStack() as stack:
        stack.callback(setstate, getstate())  # each run seeds it
        stack.callback(_put_back_in_new, known, {id(fake): real for real, fake in reversed(pairs) if fake is not real})
        stack.enter_context(preexisting_locks(_OURS))
        for namespace, name, value in found:
            namespace[name] = replacements[id(value)]
            stack.callback(namespace.__setitem__, name, value)
        for owner, name, value in (
            (Thread, "start", start_thread),
            (Thread, "join", _join),
            (Thread, "is_alive", _is_alive),
            (ThreadPoolExecutor, "__init__", _executor_init),
            (ThreadPoolExecutor, "submit", _submit),
            (Random, "seed", reseed),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        for cls, methods in (*DATE_METHODS.items(), (SimpleQueue, QUEUE_METHODS)):
            stack.enter_context(methods_replaced(cls, methods))
        # trio has a clock of its own, which is simulated elsewhere, and needs its locks to be real.
        stack.enter_context(captured_replaced(partial(_instead, replacements), (*_OURS, "trio")))
        stack.enter_context(shutdown_lock_replaced(SimulatedLock()))
        stack.enter_context(sockets_simulated())
        FUTURES_LOGGER.addFilter(_is_not_about_the_end)
        stack.callback(FUTURES_LOGGER.removeFilter, _is_not_about_the_end)
        yield
