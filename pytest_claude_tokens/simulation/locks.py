"""Locks for threads under the baton.

``threading.Condition``, ``Event``, ``Semaphore``, ``Barrier`` and ``queue.Queue`` are Python code on top of ``Lock``,
so simulating the lock simulates them all. Switch points: before a lock is taken and after it is released.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.active import ACTIVE, here
from pytest_claude_tokens.simulation.frames import here_and_now
from pytest_claude_tokens.simulation.internals import (
    CONDITION_WAIT,
    rlock_acquire_restore,
    rlock_is_owned,
    rlock_recursion_count,
    rlock_release_save,
)
from pytest_claude_tokens.simulation.native import allocate_lock, allocate_rlock
from pytest_claude_tokens.simulation.thread_record import LockWait, Stopped
from pytest_claude_tokens.simulation.timeouts import checked_timeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["QuietLock", "QuietRLock", "SimulatedLock", "SimulatedRLock"]


def _nobody() -> str:
    return "nobody"


class SimulatedLock:
    """``threading.Lock`` for threads of a world, over a real lock that also excludes threads outside the world."""

    __slots__ = ("__weakref__", "_held_by", "_owner", "_real", "_waiters")

    def __init__(self, real: Any = None) -> None:
        self._real = real or self._new()
        self._owner: ThreadRecord | None = None
        self._held_by: Callable[[], str] = _nobody
        self._waiters: deque[ThreadRecord] = deque()

    @staticmethod
    def _new() -> Any:
        return allocate_lock()

    @property
    def real(self) -> Any:
        """The real lock under it."""
        return self._real

    @property  # type: ignore[misc]  # it can only be read
    def __class__(self) -> Any:
        """That of the real lock, for ``isinstance``."""
        return type(self._real)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As the real lock: it is neither pickled nor copied."""
        return self._real.__reduce_ex__(protocol)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As ``threading.Lock.acquire``; ``timeout`` is in simulated seconds."""
        place = here()
        if place is None:
            taken: bool = self._real.acquire(blocking, timeout)
            return taken
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if checked_timeout(timeout) < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        world, record = place
        world.pause(record)
        if not self._real.acquire(blocking=False) and not (
            blocking and self._queue(world, record, None if timeout == -1 else timeout)
        ):
            return False
        self._own(record)
        return True

    def _own(self, record: ThreadRecord) -> None:
        self._owner = record
        self._held_by = here_and_now(record)
        record.locks |= {id(self)}

    def _disown(self) -> None:
        if self._owner is not None:
            self._owner.locks -= {id(self)}
            self._owner = None

    def _queue(self, world: World, record: ThreadRecord, timeout: float | None) -> bool:
        """Wait for the lock; returns whether it was taken."""
        until = world.until(timeout)
        why: Callable[[], str] | str = "a condition, event or queue"
        if sys._getframe(2).f_code is not CONDITION_WAIT:
            why = LockWait(here_and_now(record), self.held_by)
        while True:
            left = None if until is None else until - world.now
            if left is not None and left <= 0:
                return bool(self._real.acquire(blocking=False))
            if self._owner is None:  # held by a thread outside the world, whose release wakes no thread here
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
                record.why = ""
                return True

    def release(self) -> None:
        """As ``threading.Lock.release``."""
        self._disown()
        self._release()
        self._pass_on()

    def _release(self) -> None:
        try:
            self._real.release()
        except RuntimeError:
            place = here()
            if place is not None and place[0].stopping:  # `Condition.wait` was stopped before it had the lock again
                raise Stopped from None
            raise

    def _pass_on(self) -> None:
        """The lock is free: wake the next waiter, then yield."""
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
        """``record`` died while it waited. If the lock was already handed to it, the next waiter gets the lock."""
        if record in self._waiters:
            self._waiters.remove(record)
        elif ACTIVE.world is not None and not self.locked():
            self._wake_next(ACTIVE.world)

    def locked(self) -> bool:
        """Whether it is held."""
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
        self.__init__()  # type: ignore[misc]  # a new lock: no thread of the child process holds it or waits for it

    def held_by(self) -> str:
        """Who holds it, and where that was taken."""
        return self._held_by()


class SimulatedRLock(SimulatedLock):
    """``threading.RLock``, simulated in the same way. Threads are real ones, so the real lock knows its owner."""

    __slots__ = ()

    @staticmethod
    def _new() -> Any:
        return allocate_rlock()

    def release(self) -> None:
        """As ``threading.RLock.release``."""
        self._release()
        if not rlock_is_owned(self._real):
            self._disown()
            self._pass_on()

    def locked(self) -> bool:
        """Whether it is held."""
        if rlock_is_owned(self._real) or not self._real.acquire(blocking=False):
            return True
        self._real.release()
        return False

    # Called by `threading.Condition`.

    def _is_owned(self) -> bool:
        return bool(rlock_is_owned(self._real))

    def _release_save(self) -> Any:
        state = rlock_release_save(self._real)
        self._disown()
        self._pass_on()
        return state

    def _acquire_restore(self, state: Any) -> None:
        self.acquire()
        self._real.release()
        rlock_acquire_restore(self._real, state)

    def _recursion_count(self) -> int:
        """For ``multiprocessing``'s resource tracker: if a body is the first to import it, its lock is simulated."""
        return int(rlock_recursion_count(self._real))


class _Quiet(SimulatedLock):
    """A lock around the inner workings of a transport library: to take it is a switch point only where it is held.

    urllib3 fills the queue of each new pool, which alone would be forty places to switch at, none of which matters.
    """

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As ``threading.Lock.acquire``."""
        place = here()
        if place is None:
            return super().acquire(blocking, timeout)
        if self._real.acquire(blocking=False):
            self._owner = place[1]
            return True
        return blocking and super().acquire(blocking, timeout)

    def _pass_on(self) -> None:
        if ACTIVE.world is not None:
            self._wake_next(ACTIVE.world)


class QuietLock(_Quiet):
    """A quiet ``threading.Lock``."""

    __slots__ = ()


class QuietRLock(_Quiet, SimulatedRLock):
    """A quiet ``threading.RLock``."""

    __slots__ = ()
