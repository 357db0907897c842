"""Threads, locks and everything built on them, under the baton.

``threading.Condition``, ``Event``, ``Semaphore``, ``Barrier`` and ``queue.Queue`` are Python code over ``Lock``; so one
simulated lock brings them all. Switch points: before a lock is taken and after it is released.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.native import REAL_START, allocate_lock, allocate_rlock, native
from pytest_claude_tokens.simulation.thread_record import Stopped, target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Thread
    from types import TracebackType

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["ACTIVE", "SimulatedLock", "SimulatedRLock", "bind_thread", "here", "join_thread", "start_thread"]

_COUNTED = re.compile(r"(Thread|ThreadPoolExecutor)-\d+")
"""Names with a number that the process counts: it would differ from run to run."""
_WAIT = threading.Condition.wait.__code__


class _Active:
    """The world that is running now, if any. One at a time in a process."""

    world: World | None = None


ACTIVE = _Active()


def here() -> tuple[World, ThreadRecord] | None:
    """The running world and the calling thread's place in it; ``None`` for any other thread and time."""
    world = ACTIVE.world
    if world is None:
        return None
    record = world.me()
    return None if record is None else (world, record)


class SimulatedLock:
    """``threading.Lock`` for threads of a world, over a real one that excludes threads from elsewhere as well."""

    __slots__ = ("__weakref__", "_owner", "_real", "_waiters")

    def __init__(self, real: Any = None) -> None:
        self._real = real or self._new()
        self._owner: ThreadRecord | None = None
        self._waiters: deque[ThreadRecord] = deque()

    @staticmethod
    def _new() -> Any:
        return allocate_lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As ``threading.Lock.acquire``; ``timeout`` is in simulated seconds."""
        place = here()
        if place is None:
            taken: bool = self._real.acquire(blocking, timeout)
            return taken
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        world, record = place
        world.pause(record)
        if not self._real.acquire(blocking=False) and not (
            blocking and self._queue(world, record, None if timeout == -1 else timeout)
        ):
            return False
        self._owner = record
        return True

    def _queue(self, world: World, record: ThreadRecord, timeout: float | None) -> bool:
        """Wait for it; whether it was taken."""
        until = None if timeout is None else world.now + timeout
        why = "a condition, event or queue" if sys._getframe(2).f_code is _WAIT else self._why
        while True:
            left = None if until is None else until - world.now
            if left is not None and left <= 0:
                return bool(self._real.acquire(blocking=False))
            if self._owner is None:  # a thread from elsewhere holds it, and will not tell us when it lets go
                return bool(self._real.acquire(True, -1 if left is None else left))
            self._waiters.append(record)
            record.leave = self._leave
            try:
                world.block(record, why, left)
            finally:
                record.leave = None
                if record in self._waiters:
                    self._waiters.remove(record)
            if self._real.acquire(blocking=False):
                return True

    def release(self) -> None:
        """As ``threading.Lock.release``."""
        self._owner = None
        self._release()
        self._let_go()

    def _release(self) -> None:
        try:
            self._real.release()
        except RuntimeError:
            place = here()
            if place is not None and place[0].stopping:  # a condition could not take it again
                raise Stopped from None
            raise

    def _let_go(self) -> None:
        """It is free: wake the next, and see who goes on."""
        place = here()
        world = ACTIVE.world if place is None else place[0]
        if world is not None:
            self._wake_next(world)
        if place is not None:
            place[0].pause(place[1])

    def _wake_next(self, world: World) -> None:
        if self._waiters:
            world.wake(self._waiters.popleft())

    def _leave(self, record: ThreadRecord) -> None:
        """``record`` has died in the queue. If its turn had come, it is the next one's."""
        if record in self._waiters:
            self._waiters.remove(record)
        elif ACTIVE.world is not None and not self.locked():
            self._wake_next(ACTIVE.world)

    def locked(self) -> bool:
        """Whether somebody holds it."""
        held: bool = self._real.locked()
        return held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<SimulatedLock {'held by ' + self._owner.name if self._owner else 'free'}>"

    def _at_fork_reinit(self) -> None:
        self.__init__()  # type: ignore[misc]  # as new: in the child nobody holds it or waits for it

    def _why(self) -> str:
        return f"a lock that {self._owner.name if self._owner else 'nobody'} holds"


class SimulatedRLock(SimulatedLock):
    """``threading.RLock``, in the same way. The threads are real ones, so the real lock knows its owner."""

    __slots__ = ()

    @staticmethod
    def _new() -> Any:
        return allocate_rlock()

    def release(self) -> None:
        """As ``threading.RLock.release``."""
        self._release()
        if not self._real._is_owned():
            self._owner = None
            self._let_go()

    def locked(self) -> bool:
        """Whether somebody holds it."""
        if self._real._is_owned() or not self._real.acquire(blocking=False):
            return True
        self._real.release()
        return False

    # What a condition asks of its lock.

    def _is_owned(self) -> bool:
        return bool(self._real._is_owned())

    def _release_save(self) -> Any:
        state = self._real._release_save()
        self._owner = None
        self._let_go()
        return state

    def _acquire_restore(self, state: Any) -> None:
        self.acquire()
        self._real.release()
        self._real._acquire_restore(state)

    def _recursion_count(self) -> int:
        """For ``multiprocessing``'s resource tracker, which may be imported first, and make its lock, in a body."""
        return int(self._real._recursion_count())


@contextmanager
def _undisturbed(world: World) -> Iterator[None]:
    """What the calling thread waits for inside is the machinery's business, and may take long on a busy machine."""
    me = world.me()
    if me is None or me.inside:
        yield
        return
    me.inside = True
    try:
        yield
    finally:
        me.inside = False


def bind_thread(world: World, thread: Thread, name: str, worker: str | None) -> ThreadRecord:
    """Start ``thread`` as one of ``world``'s, working for ``worker``: ready, but it runs only when it is chosen."""
    record = world.register(name, target(worker))
    run = thread.run

    def baton_run() -> None:
        try:
            world.start(record)
            WORKER.set(worker)
            run()
        except Stopped:
            pass
        except BaseException:
            if not world.stopping:  # else: what fails, as it can't wait any more, is nobody's error
                raise
        finally:
            world.finish(record)

    thread.run = baton_run  # type: ignore[method-assign]
    thread._claude_tokens = record  # type: ignore[attr-defined]
    world.ready.append(record)
    daemon = thread.daemon
    with native(), _undisturbed(world):
        # The start-up handshake is the interpreter's business, and happens before the thread has the baton. To the
        # interpreter it is a daemon: the end of the process must not wait for one that is stuck.
        thread._started = type(thread._started)()  # type: ignore[attr-defined]
        thread.daemon = True
        REAL_START(thread)
        thread._daemonic = daemon  # type: ignore[attr-defined]
    return record


def start_thread(thread: Thread) -> None:
    """``Thread.start`` in a world: the new thread belongs to the worker that started it."""
    place = here()
    if place is None or thread._started.is_set():  # type: ignore[attr-defined]
        REAL_START(thread)
        return
    world = place[0]
    if _COUNTED.match(thread.name):
        thread.name = f"thread-{len(world.all)}"
    bind_thread(world, thread, thread.name, WORKER.get())
    world.pause(place[1])


def join_thread(thread: Thread, timeout: float | None, real_join: Any) -> None:
    """``Thread.join`` in a world: waits in simulated time for a thread of the same world."""
    record: ThreadRecord | None = getattr(thread, "_claude_tokens", None)
    place = here()
    if record is None or place is None or record is place[1]:
        real_join(thread, timeout)
        return
    world, me = place
    until = None if timeout is None else world.now + timeout
    world.pause(me)
    while not record.done:
        left = None if until is None else until - world.now
        if left is not None and left <= 0:
            return
        record.joiners.append(me)
        try:
            world.block(me, f"the end of {record.name}", left)
        finally:
            record.joiners.remove(me)
    with _undisturbed(world):
        real_join(thread, None)
