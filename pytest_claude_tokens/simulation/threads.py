"""Starts and joins threads of a world under the baton. Both are switch points."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from fake_server.genuine import threading
from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.internals import is_started, started_as_daemon
from pytest_claude_tokens.simulation.native import REAL_IS_ALIVE, REAL_JOIN, REAL_START, allocate_lock, native
from pytest_claude_tokens.simulation.thread_record import Stopped, worker_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Thread

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["bind_thread", "join_thread", "new_thread", "outside", "start_thread"]

_BEGIN_POLL_SECONDS = 0.2
T = TypeVar("T")

_COUNTED = re.compile(r"(Thread|ThreadPoolExecutor)-\d+")
"""Default names of threads: their number counts up through the whole process, so it would differ from run to run."""


@contextmanager
def _undisturbed(world: World) -> Iterator[None]:
    """In the block the watchdog ignores the calling thread, which may wait long for a real thread to start or end."""
    me = world.me()
    if me is None or me.inside:
        yield
        return
    me.inside = True
    try:
        yield
    finally:
        me.inside = False


def new_thread(target: Callable[[], object], name: str) -> Thread:
    """A thread of ours, which no test has replaced."""
    with native():
        return threading.Thread(target=target, name=name, daemon=True)


def outside(world: World, call: Callable[[], T]) -> T:
    """What ``call`` returns in a thread that belongs to no world, with real time, locks and chance.

    The caller keeps the baton meanwhile. For what is slow and the same in every run, such as a server's start.
    """
    if here() is None:
        return call()
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:
            raised.append(error)

    thread = new_thread(run, "claude-tokens-outside")
    with native(), _undisturbed(world):
        REAL_START(thread)
        REAL_JOIN(thread)
    if raised:
        raise raised[0]
    return returned[0]


def bind_thread(world: World, thread: Thread, name: str, worker: str | None) -> ThreadRecord:
    """Start ``thread`` in ``world`` for ``worker``. It is ready at once, but runs only when it is chosen."""
    record = world.register(name, worker_number(worker))
    run = thread.run
    begun = allocate_lock()
    begun.acquire()

    def baton_run() -> None:
        begun.release()
        try:
            world.start(record)
            WORKER.set(worker)
            if world.watching is None:
                run()
            else:
                with world.watching():
                    run()
        except Stopped:
            pass
        except BaseException:
            if not world.stopping:  # else the end of the world made it fail, and not the test's code
                raise
        finally:
            world.finish(record)

    thread.run = baton_run  # type: ignore[method-assign]
    thread._claude_tokens = record  # type: ignore[attr-defined]
    # The interpreter's start-up handshake takes place before the thread has the baton. The interpreter sees a daemon:
    # at exit, it must not wait for a thread that is stuck.
    with native(), _undisturbed(world), started_as_daemon(thread):
        REAL_START(thread)
        # It has not run a line of ours yet, and may die before it does: under coverage, CPython refuses to trace two
        # threads that begin at once. So one begins at a time, and one that has died is not given the baton.
        while not begun.acquire(timeout=_BEGIN_POLL_SECONDS):
            if not REAL_IS_ALIVE(thread):  # pragma: no branch - else it begins late, on a busy machine
                record.end()
                raise RuntimeError(f"{name} died before its first line, of the error that the interpreter has printed")
    record.queue()
    world.ready.append(record)
    world.progress()
    return record


def start_thread(thread: Thread) -> None:
    """``Thread.start`` in a world: the new thread belongs to the worker that started it."""
    place = here()
    if place is None or is_started(thread):
        REAL_START(thread)
        return
    world = place[0]
    if place[1] is world.root and world.follow is not None:
        world.follow(sys._getframe())
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
    until = world.until(timeout)
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
