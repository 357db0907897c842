"""``queue.SimpleQueue`` for threads of a world. It is written in C, so a thread that waits in it holds the baton.

Its methods are replaced in place, in the class itself, and not the class by another one: what is subscripted,
subclassed, asked for by ``isinstance`` or imported in a body is the real class, and stays it after the search.

A queue from before the run is left alone when a thread has to wait in it. Whoever fills it may be a thread outside of
every world, for whose item a thread must wait where the watchdog sees it.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.thread_record import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["QUEUE_METHODS", "grow_old"]

_GET, _PUT = SimpleQueue.get, SimpleQueue.put
_HAS_GENERATIONS = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether the collector knows old objects from young ones: that of a free-threaded build does not."""
_OLD: WeakSet[SimpleQueue[Any]] = WeakSet()
"""Where it does not: the queues that were there when a search began."""


def grow_old() -> None:
    """A search begins: what there is now counts as older than any run."""
    gc.collect(0)
    if not _HAS_GENERATIONS:
        _OLD.update(one for one in gc.get_objects() if issubclass(type(one), SimpleQueue))


def _get(self: SimpleQueue[Any], block: bool = True, timeout: float | None = None) -> Any:
    place = here()
    if place is None:
        return _GET(self, block, timeout)
    world, record = place
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    until = world.until(timeout)
    world.pause(record)
    while True:
        try:
            return _GET(self, False)
        except Empty:
            left = None if until is None else until - world.now
            if not block or (left is not None and left <= 0):
                raise
        waiting = _waiting(world, self)
        if waiting is None:
            return _GET(self, True, left)
        _wait(world, record, waiting, left)


def _put(self: SimpleQueue[Any], item: Any, block: bool = True, timeout: float | None = None) -> None:
    _PUT(self, item, block, timeout)
    place = here()
    if place is not None:
        world, record = place
        _wake_one(world, world.getters.setdefault(id(self), deque()))
        with suppress(Stopped):  # a thread pool is told of its end by a queue, when it is collected
            world.pause(record)


def _get_nowait(self: SimpleQueue[Any]) -> Any:
    return _get(self, False)


def _put_nowait(self: SimpleQueue[Any], item: Any) -> None:
    _put(self, item)


def _waiting(world: World, queue: SimpleQueue[Any]) -> deque[ThreadRecord] | None:
    """The threads that wait in the queue; ``None`` if it was made before the run, and no thread of it has filled it.

    What a run has made is in the youngest generation: the collector is off during a run, and at the start of a search
    all that there is has grown older (:func:`grow_old`).
    """
    if id(queue) not in world.getters:
        if _HAS_GENERATIONS:
            young = any(one is queue for one in gc.get_objects(generation=0))
        else:
            young = queue not in _OLD
        world.getters[id(queue)] = deque() if young else None
    return world.getters[id(queue)]


def _wait(world: World, record: ThreadRecord, waiting: deque[ThreadRecord], left: float | None) -> None:
    """Wait until something is put into the queue, or ``left`` simulated seconds have passed."""
    waiting.append(record)

    def leave(dead: ThreadRecord) -> None:
        if dead in waiting:
            waiting.remove(dead)
        else:
            _wake_one(world, waiting)  # it was woken for an item that it will never take

    record.leave = leave
    try:
        world.block(record, "a queue", left)
    finally:
        record.leave = None
        if record in waiting:
            waiting.remove(record)


def _wake_one(world: World, waiting: deque[ThreadRecord] | None) -> None:
    if waiting:
        world.wake(waiting.popleft())


QUEUE_METHODS: dict[str, Callable[..., Any]] = {
    "get": _get,
    "put": _put,
    "get_nowait": _get_nowait,
    "put_nowait": _put_nowait,
}
"""The methods to replace in the class, by name."""
for _name, _method in QUEUE_METHODS.items():
    _method.__name__, _method.__qualname__ = _name, f"SimpleQueue.{_name}"
    _method.__doc__ = getattr(SimpleQueue, _name).__doc__
