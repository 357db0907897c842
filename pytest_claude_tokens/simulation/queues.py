"""``queue.SimpleQueue`` for threads of a world. It is written in C, so a thread that waits in it holds the baton.

Its methods are replaced in place, in the class itself, and not the class by another one: what is subscripted,
subclassed, asked for by ``isinstance`` or imported in a body is the real class, and stays it after the search.

A queue from before the search is left alone. Whoever fills it may be a thread outside of every world, for whose item a
thread must wait where the watchdog sees it.
"""

from __future__ import annotations

import gc
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.thread_record import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["queue_methods"]

_GET, _PUT = SimpleQueue.get, SimpleQueue.put


def queue_methods() -> dict[str, Callable[..., Any]]:
    """The methods to replace in the class, by name."""
    before = {id(one): one for one in gc.get_objects() if isinstance(one, SimpleQueue)}

    def get(self: SimpleQueue[Any], block: bool = True, timeout: float | None = None) -> Any:
        place = here()
        if place is None or id(self) in before:
            return _GET(self, block, timeout)
        world, record = place
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        world.pause(record)
        until = None if timeout is None else world.now + timeout
        while True:
            try:
                return _GET(self, False)
            except Empty:
                left = None if until is None else until - world.now
                if not block or (left is not None and left <= 0):
                    raise
                _wait(world, record, self, left)

    def put(self: SimpleQueue[Any], item: Any, block: bool = True, timeout: float | None = None) -> None:
        _PUT(self, item, block, timeout)
        place = here()
        if place is None or id(self) in before:
            return
        world, record = place
        _wake_one(world, self)
        with suppress(Stopped):  # a thread pool is told of its end by a queue, when it is collected
            world.pause(record)

    def get_nowait(self: SimpleQueue[Any]) -> Any:
        return self.get(False)

    def put_nowait(self: SimpleQueue[Any], item: Any) -> None:
        self.put(item)

    for function in (get, put, get_nowait, put_nowait):
        real = getattr(SimpleQueue, function.__name__)
        function.__qualname__, function.__doc__ = real.__qualname__, real.__doc__
    return {"get": get, "put": put, "get_nowait": get_nowait, "put_nowait": put_nowait}


def _wait(world: World, record: ThreadRecord, queue: SimpleQueue[Any], left: float | None) -> None:
    """Wait until something is put into the queue, or ``left`` simulated seconds have passed."""
    waiting = world.getters.setdefault(id(queue), deque())
    waiting.append(record)

    def leave(dead: ThreadRecord) -> None:
        if dead in waiting:
            waiting.remove(dead)
        elif not queue.empty():  # it was woken for an item that it will never take
            _wake_one(world, queue)

    record.leave = leave
    try:
        world.block(record, "a queue", left)
    finally:
        record.leave = None
        if record in waiting:
            waiting.remove(record)


def _wake_one(world: World, queue: SimpleQueue[Any]) -> None:
    waiting = world.getters.get(id(queue))
    if waiting:
        world.wake(waiting.popleft())
