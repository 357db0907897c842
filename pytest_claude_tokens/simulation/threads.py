"""Threads, locks and everything built on them, under the baton.

``threading.Condition``, ``Event``, ``Semaphore``, ``Barrier`` and ``queue.Queue`` are Python code over ``Lock``; so one
simulated lock brings them all. Switch points: before a lock is taken and after it is released.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from fake_server.actors import WORKER
from pytest_claude_tokens.simulation.native import REAL_START, monotonic, native, real_sleep
from pytest_claude_tokens.simulation.world import Stopped, target

if TYPE_CHECKING:
    from threading import Thread
    from types import TracebackType

    from pytest_claude_tokens.simulation.world import Carrier, World

__all__ = ["ACTIVE", "SimulatedLock", "adopt_thread", "here", "join_thread", "start_thread"]


class _Active:
    """The world that is running now, if any. One at a time in a process."""

    world: World | None = None


ACTIVE = _Active()


def here() -> tuple[World, Carrier] | None:
    """The running world and the calling thread's place in it; ``None`` for any other thread and time."""
    world = ACTIVE.world
    if world is None:
        return None
    carrier = world.me()
    return None if carrier is None else (world, carrier)


class SimulatedLock:
    """``threading.Lock`` for threads of a world. Elsewhere it still excludes, by polling."""

    __slots__ = ("__weakref__", "_locked", "_owner", "_waiters")

    def __init__(self) -> None:
        self._locked = False
        self._owner: Carrier | None = None
        self._waiters: deque[Carrier] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As ``threading.Lock.acquire``; ``timeout`` is in simulated seconds."""
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        place = here()
        if place is None:
            return self._acquire_outside(blocking, timeout)
        world, carrier = place
        world.pause(carrier)
        until = None if timeout == -1 else world.now + timeout
        while self._locked:
            left = None if until is None else until - world.now
            if not blocking or (left is not None and left <= 0):
                return False
            self._waiters.append(carrier)
            try:
                world.block(carrier, self._why, left)
            finally:
                if carrier in self._waiters:
                    self._waiters.remove(carrier)
        self._locked = True
        self._owner = carrier
        return True

    def release(self) -> None:
        """As ``threading.Lock.release``."""
        if not self._locked:
            raise RuntimeError("release unlocked lock")
        self._locked = False
        self._owner = None
        place = here()
        world = ACTIVE.world if place is None else place[0]
        if world is not None and self._waiters:
            world.wake(self._waiters.popleft())
        if place is not None:
            place[0].pause(place[1])

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<SimulatedLock {'held by ' + self._owner.name if self._owner else 'free'}>"

    def _at_fork_reinit(self) -> None:
        self._locked = False
        self._waiters.clear()

    def _why(self) -> str:
        return f"a lock that {self._owner.name} holds" if self._owner else "a condition, event or queue"

    def _acquire_outside(self, blocking: bool, timeout: float) -> bool:
        until = None if timeout == -1 else monotonic() + timeout
        while self._locked:
            if not blocking or (until is not None and monotonic() >= until):
                return False
            real_sleep(0.001)
        self._locked = True
        return True


def adopt_thread(world: World, thread: Thread, name: str, worker: str | None) -> Carrier:
    """Start ``thread`` as one of ``world``'s, working for ``worker``: ready, but it runs only when it is chosen."""
    carrier = world.enlist(name, target(worker))
    run = thread.run

    def baton_run() -> None:
        try:
            world.start(carrier)
            WORKER.set(worker)
            run()
        except Stopped:
            pass
        finally:
            world.finish(carrier)

    thread.run = baton_run  # type: ignore[method-assign]
    thread._claude_tokens = carrier  # type: ignore[attr-defined]
    world.ready.append(carrier)
    with native():
        # The start-up handshake is the interpreter's business, and happens before the thread has the baton.
        thread._started = type(thread._started)()  # type: ignore[attr-defined]
        REAL_START(thread)
    return carrier


def start_thread(thread: Thread) -> None:
    """``Thread.start`` in a world: the new thread belongs to the worker that started it."""
    place = here()
    if place is None or thread._started.is_set():  # type: ignore[attr-defined]
        REAL_START(thread)
        return
    world = place[0]
    name = thread.name
    if name.startswith("Thread-"):
        name = f"thread-{len(world.all)}"
        thread.name = name
    adopt_thread(world, thread, name, WORKER.get())
    world.pause(place[1])


def join_thread(thread: Thread, timeout: float | None, real_join: Any) -> None:
    """``Thread.join`` in a world: waits in simulated time for a thread of the same world."""
    carrier: Carrier | None = getattr(thread, "_claude_tokens", None)
    place = here()
    if carrier is None or place is None:
        real_join(thread, timeout)
        return
    world, me = place
    until = None if timeout is None else world.now + timeout
    world.pause(me)
    while not carrier.done:
        left = None if until is None else until - world.now
        if left is not None and left <= 0:
            return
        carrier.joiners.append(me)
        world.block(me, f"the end of {carrier.name}", left)
    real_join(thread, None)
