"""A world: everything that can run in one run of a body, its time, and who lives in it.

:mod:`.scheduler` says who goes on, :mod:`.baton` sees to it that only that one does. Here is what belongs to the run
besides: its event loops, its randomness, its doubles of things from before it.
"""

from __future__ import annotations

import gc
import itertools
import warnings
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from pytest_claude_tokens.simulation.baton import Baton
from pytest_claude_tokens.simulation.thread_record import ThreadState

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.chooser import Chooser
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord

__all__ = ["Guest", "World"]

_SERIALS = itertools.count(1)
_ENDED = (ThreadState.DONE, ThreadState.KILLED, ThreadState.LOST)


class Guest(Protocol):
    """An event loop that lives in a world, and is closed with it."""

    @property
    def unfinished(self) -> bool:
        """Whether there are tasks that have not ended, or that the end of the world has ended."""

    def drop(self, worker: int) -> None:
        """The tasks of ``worker`` never run again."""

    def close_pending_tasks(self) -> None:
        """The world has ended: close the coroutines of tasks that have not."""

    def disconnect(self) -> None:
        """No connection is made any more."""


class World(Baton):
    """One world. ``new_loop`` makes an event loop in it, for a thread that runs one of its own."""

    def __init__(
        self,
        chooser: Chooser,
        workers: int,
        seed: int = 0,
        *,
        on_death: Callable[[str, int], None] | None = None,
        new_loop: Callable[[World], AbstractEventLoop] | None = None,
    ) -> None:
        super().__init__(chooser, on_death)
        self.serial = next(_SERIALS)
        self.workers = workers
        self._seed = seed
        self._new_loop = new_loop
        self.loops: list[Guest] = []
        self.doubles: dict[int, tuple[Any, Any]] = {}
        """By the identity of an executor from before the world: it, and what does its jobs in the world."""

    @cached_property
    def entropy(self) -> Random:
        """What stands for the machine's own randomness."""
        return Random(self._seed)

    def new_loop(self) -> AbstractEventLoop:
        """An event loop for the calling thread. Raises ``RuntimeError`` where none was provided for."""
        if self._new_loop is None:
            raise RuntimeError("this world makes no event loops")
        return self._new_loop(self)

    def drop(self, dead: int) -> None:
        """Worker number ``dead`` never runs again: what of it is ready leaves the queue."""
        with self.mutex:  # one that comes back from outside meanwhile must not queue up
            self.dead.add(dead)
            for item in [item for item in self.ready if self.worker_of(item) == dead]:
                self.ready.remove(item)
            for loop in self.loops:
                loop.drop(dead)
            for record in self.all:
                if record.worker == dead and record.state not in _ENDED:
                    record.kill()
                    if record.leave is not None:
                        record.leave(record)

    def stop(self) -> list[ThreadRecord]:
        """End what is left: threads, then tasks. Returns the threads that could not be ended."""
        left = super().stop()
        if self.dead or any(loop.unfinished for loop in self.loops):
            with warnings.catch_warnings():  # workers that were killed have closed nothing, which is no fault of theirs
                warnings.simplefilter("ignore")
                for loop in self.loops:
                    self.ask(loop.close_pending_tasks)
                gc.collect(0)  # the youngest generation: what was made in this run, and has no owner any more
        return left

    def release(self) -> None:
        """From now on only the time is asked for: take all else apart, so that it is freed without the collector."""
        for loop in self.loops:
            loop.disconnect()
        self.loops.clear()
        self.all.clear()
        self.records.clear()
        self._new_loop = self._on_death = None
