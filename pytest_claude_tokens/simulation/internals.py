"""Every private name of the standard library that the simulation needs: asyncio, threading and futures.

No other module of the package uses one. ``tests/unit/simulation/test_internals.py`` has a canary for each name, which
says what to do when a new Python no longer has it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import contextvars
import ctypes
import gc
import heapq
import sys
import threading
from _thread import get_ident
from asyncio import base_events, events
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures._base import LOGGER as FUTURES_LOGGER
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from asyncio import Handle, TimerHandle
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from threading import Thread
    from types import FrameType

__all__ = [
    "CLOSE_SOCKET",
    "CONDITION_WAIT",
    "FUTURES_LOGGER",
    "INIT_OF_DATACLASS",
    "BareLoop",
    "attributes_set",
    "callback_of",
    "context_of",
    "done_callbacks_of",
    "exception_of",
    "forget_pool_thread",
    "ignore_destruction",
    "ignore_exception",
    "is_cancelled",
    "is_started",
    "leave_lock",
    "like",
    "methods_replaced",
    "pop_timer",
    "postpone",
    "push_timer",
    "rlock_acquire_restore",
    "rlock_is_owned",
    "rlock_recursion_count",
    "rlock_release_save",
    "run_handle",
    "secure",
    "shutdown_lock_replaced",
    "started_as_daemon",
    "unreported",
    "wake_up",
    "was_shut_down",
]

# asyncio: handles and timers.

context_of: Callable[[Handle], contextvars.Context] = attrgetter("_context")
callback_of: Callable[[Handle], Any] = attrgetter("_callback")
is_cancelled: Callable[[Handle], bool] = attrgetter("_cancelled")
run_handle: Callable[[Handle], None] = events.Handle._run


def pop_timer(timers: list[TimerHandle]) -> TimerHandle:
    """Take the first timer off a loop's heap, and mark it so: a later cancel would count it as still on the heap."""
    handle = heapq.heappop(timers)
    handle._scheduled = False  # type: ignore[attr-defined]
    return handle


def push_timer(timers: list[TimerHandle], handle: TimerHandle) -> None:
    """Put a timer on a loop's heap again."""
    handle._scheduled = True  # type: ignore[attr-defined]
    heapq.heappush(timers, handle)


# asyncio: tasks and locks.

_LOCK_ACQUIRE = asyncio.Lock.acquire.__code__


exception_of: Callable[[Any], BaseException | None] = attrgetter("_exception")
"""The exception that a task has ended with; reading it here does not mark it as retrieved."""
unreported: Callable[[Any], bool] = attrgetter("_log_traceback")
"""Whether the exception of a task would be logged when the task is collected."""


def done_callbacks_of(task: Any) -> list[Any]:
    """Whom a task calls when it is done: those who wait for it, and whatever its author wants to be called."""
    return [callback for callback, _ in task._callbacks or ()]


def postpone(handle: Any, seconds: float) -> None:
    """Have a timer fire later (``TimerHandle._when``). Its heap is then none any more, until it is made one again."""
    handle._when += seconds


def ignore_exception(task: Any) -> None:
    """Keep ``asyncio`` from logging the task's exception when the task is collected."""
    task._log_traceback = False


def ignore_destruction(task: Any) -> None:
    """Keep ``asyncio`` from logging, when the task is collected, that it was still pending."""
    task._log_destroy_pending = False


def leave_lock(frames: Iterable[FrameType]) -> None:
    """Take a suspended coroutine, given its frames, out of the queue of an ``asyncio.Lock``.

    If the lock was already handed to it, the next waiter gets the lock.
    """
    for frame in frames:
        if frame.f_code is _LOCK_ACQUIRE:
            lock, future = frame.f_locals["self"], frame.f_locals["fut"]
            lock._waiters.remove(future)
            if not lock._locked:
                lock._wake_up_first()


# asyncio: the loop.


class _Ordered(WeakKeyDictionary[Any, None]):
    """A weak set that keeps insertion order: generators are closed in the order in which they were started."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


def _held(cls: type[base_events.BaseEventLoop]) -> type[base_events.BaseEventLoop]:
    """A class with the same methods as ``cls``, by itself: a test may replace those of ``cls``."""
    methods = {name: value for name, value in vars(cls).items() if callable(value)}
    return type(cls.__name__, (cls,), methods)


if TYPE_CHECKING:
    _Base = base_events.BaseEventLoop
else:
    _Base = _held(base_events.BaseEventLoop)


class BareLoop(_Base):
    """The base class of asyncio's own loops, without a selector; gives access to the internals that we need."""

    def __init__(self) -> None:
        super().__init__()
        self._asyncgens = _Ordered()

    # For subclasses.

    def wake_up(self) -> None:
        """Called when another thread has scheduled a callback on this loop."""

    def use_queues(self, ready: Any, timers: list[Any]) -> None:
        """Have the loop put runnable handles into ``ready``, and timers into the heap ``timers``."""
        self._ready = ready
        self._scheduled = timers

    def use_selector(self, selector: Any) -> None:
        """Have the loop call ``selector.select(timeout)`` between two rounds of handles."""
        self._selector = selector

    @property
    def timers(self) -> list[TimerHandle]:
        """The heap of timers."""
        return self._scheduled

    @property
    def is_in_thread(self) -> bool:
        """Whether a thread is running the loop."""
        return self._thread_id is not None

    @property
    def default_executor(self) -> Any:
        """The executor of jobs that name none."""
        return self._default_executor  # type: ignore[attr-defined]

    @property
    def has_generators(self) -> bool:
        """Whether there are asynchronous generators that have started and not ended."""
        return bool(self._asyncgens)

    check_open: Callable[[], None] = base_events.BaseEventLoop._check_closed  # type: ignore[attr-defined]
    """Raises ``RuntimeError`` if the loop is closed."""

    @contextmanager
    def as_running(self) -> Iterator[None]:
        """In the block it is the calling thread's running loop, as ``run_forever`` would make it."""
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook,  # type: ignore[attr-defined]
            finalizer=self._asyncgen_finalizer_hook,  # type: ignore[attr-defined]
        )
        events._set_running_loop(self)
        self._thread_id: int | None = get_ident()
        try:
            yield
        finally:
            self._thread_id = None
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*before)

    @contextmanager
    def as_open(self) -> Iterator[None]:
        """In the block it appears as the running loop, and not closed."""
        before, closed = events._get_running_loop(), self.is_closed()
        self._closed = False
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(before)
            self._closed = closed

    # In one function, for speed: it is called for each step of each task of each run.

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:  # type: ignore[override]
        """As usual."""
        if self._debug or self._closed:  # type: ignore[attr-defined]
            return super().call_soon(callback, *args, context=context)
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    # What BaseEventLoop leaves to its subclasses.

    def _check_thread(self) -> None:
        """In debug mode any thread may call: under the baton only one thread runs."""

    def _process_events(self, event_list: Any) -> None:
        """Do nothing: without a selector there are no events."""

    def _write_to_self(self) -> None:
        self.wake_up()

    async def _make_subprocess_transport(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("a simulated loop starts no processes: explore(processes=True) is for those")


def wake_up(loop: Any) -> None:
    """Have ``loop``, which may belong to another thread and be idle, check for callbacks."""
    loop._write_to_self()


# threading.

CONDITION_WAIT = threading.Condition.wait.__code__
_RLock: Any = type(threading.RLock())
rlock_is_owned: Callable[[Any], bool] = _RLock._is_owned
rlock_release_save: Callable[[Any], Any] = _RLock._release_save
rlock_acquire_restore: Callable[[Any, Any], None] = _RLock._acquire_restore
rlock_recursion_count: Callable[[Any], int] = _RLock._recursion_count


def is_started(thread: Thread) -> bool:
    """Whether ``start()`` has been called."""
    started: threading.Event = thread._started  # type: ignore[attr-defined]
    return started.is_set()


@contextmanager
def started_as_daemon(thread: Thread) -> Iterator[None]:
    """In the block, ``thread`` starts as a daemon, with a real start event; afterwards ``daemon`` is as before."""
    daemon = thread.daemon
    thread._started = type(thread._started)()  # type: ignore[attr-defined]
    thread.daemon = True
    yield
    thread._daemonic = daemon  # type: ignore[attr-defined]


# concurrent.futures.


def was_shut_down(executor: Any) -> bool:
    """Whether ``executor`` refuses new jobs."""
    return bool(executor._shutdown)


def like(executor: Any) -> ThreadPoolExecutor:
    """A new thread pool with the settings of ``executor``."""
    # Since Python 3.14 what each of its threads begins with is in a context that is made for it.
    make = getattr(executor, "_create_worker_context", None)
    begins, prefix = (executor, "_") if make is None else (make(), "")
    initializer, initargs = (getattr(begins, f"{prefix}{name}", None) for name in ("initializer", "initargs"))
    return ThreadPoolExecutor(executor._max_workers, "", initializer, initargs or ())


def forget_pool_thread(thread: Thread) -> None:
    """Let the interpreter end without waiting for ``thread``, if it belongs to a pool."""
    concurrent.futures.thread._threads_queues.pop(thread, None)  # type: ignore[attr-defined]


@contextmanager
def shutdown_lock_replaced(lock: Any) -> Iterator[None]:
    """In the block, ``lock`` replaces the global lock that every pool takes when a job is submitted."""
    module = concurrent.futures.thread
    before = module._global_shutdown_lock
    module._global_shutdown_lock = lock
    try:
        yield
    finally:
        module._global_shutdown_lock = before


# Dataclasses.

INIT_OF_DATACLASS = "__create_fn__.<locals>.__init__"
"""The qualified name of the code of each constructor that ``dataclasses`` has made."""


# Sockets.

CLOSE_SOCKET = "_real_close"
"""The method of ``socket.socket`` that closes it when the last file made of it is closed, too."""


def secure(sock: Any, session: Any) -> None:
    """Make ``session`` the TLS session of ``sock``, an ``SSLSocket`` that is not connected."""
    sock._sslobj = session
    sock._connected = True


@contextmanager
def attributes_set(cls: type, values: Mapping[str, Any]) -> Iterator[None]:
    """In the block, ``cls``, a class that is written in Python, has these attributes."""
    missing = object()
    before = {name: vars(cls).get(name, missing) for name in values}
    for name, value in values.items():
        setattr(cls, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                delattr(cls, name)
            else:
                setattr(cls, name, value)


# Classes that are written in C.

_modified = ctypes.pythonapi.PyType_Modified  # documented: the interpreter must look the names of the class up again
_modified.argtypes, _modified.restype = [ctypes.py_object], None


@contextmanager
def methods_replaced(cls: type, methods: Mapping[str, Any]) -> Iterator[None]:
    """In the block, ``cls`` itself has these methods, although attributes of a class in C can't be set.

    A stand-in for the class would be another object: compiled code, a subclass or an import of that time could keep it.
    """
    (names,) = gc.get_referents(cls.__dict__)  # the dictionary behind the read-only view
    before = {name: names[name] for name in methods}
    names.update(methods)
    _modified(cls)
    try:
        yield
    finally:
        names.update(before)
        _modified(cls)
