"""A world: everything that can run in one run of a body, and its time.

:mod:`pytest_claude_tokens.simulation.scheduler` chooses what runs next, and
:mod:`pytest_claude_tokens.simulation.baton` keeps all other threads from running. This module adds the rest of a run:
its event loops, its random numbers, and its doubles of thread pools that existed before it.
"""

from __future__ import annotations

import gc
import itertools
import warnings
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from pytest_claude_tokens.simulation.baton import Baton
from pytest_claude_tokens.simulation.frames import thread_place
from pytest_claude_tokens.simulation.scheduler import SLOW_SECONDS
from pytest_claude_tokens.simulation.thread_record import LockWait, ThreadState, worker_number
from pytest_claude_tokens.simulation.timeouts import checked_timeout

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections import deque
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import FrameType

    from pytest_claude_tokens.simulation.chooser import Chooser
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord

__all__ = ["Guest", "Watcher", "World"]

_SERIALS = itertools.count(1)
_ENDED = (ThreadState.DONE, ThreadState.KILLED, ThreadState.LOST)


class Guest(Protocol):
    """An event loop that lives in a world, and is closed with it."""

    @property
    def unfinished(self) -> bool:
        """Whether there are tasks that have not ended, or that the end of the world has ended."""

    def drop(self, worker: int) -> None:
        """Take the tasks of ``worker`` out of all queues: they never run again."""

    def close_pending_tasks(self) -> None:
        """Close the coroutines of tasks that have not ended, when the world has."""

    def disconnect(self) -> None:
        """Let go of the network: no more connections are made."""


class Watcher(Protocol):
    """Who is told of a thread's accesses before they happen. ``steps``: those that it has been told of, in order."""

    steps: list[Any]

    def arrive(self, access: Any, frame: FrameType) -> bool:
        """A thread is about to make an access in ``frame``. Returns whether it was preempted."""


class Pace(Protocol):
    """Processes that threads of a world have started. ``waited``: whether time has waited for one of them."""

    waited: bool

    def expect(self) -> None:
        """One more is about to start."""

    def keep_pace(self, seconds: float, is_awaited: Callable[[], bool]) -> None:
        """So many seconds of simulated time are about to pass, and may take as long while ``is_awaited``."""


class World(Baton):
    """One world. ``new_loop`` makes an event loop in it, for a thread that runs its own."""

    now: float

    def __init__(
        self,
        chooser: Chooser,
        workers: int,
        seed: int = 0,
        *,
        on_death: Callable[[str, int], None] | None = None,
        new_loop: Callable[[World], AbstractEventLoop] | None = None,
        slow: float = SLOW_SECONDS,
    ) -> None:
        super().__init__(chooser, on_death, slow=slow)
        self.serial: int = next(_SERIALS)
        self.workers = workers
        self._seed = seed
        self._new_loop = new_loop
        self.loops: list[Guest] = []
        self.wires: Any = None
        """The connections in memory of clients that block; ``None``: there is no service to connect to."""
        self.doubles: dict[int, tuple[Any, Any]] = {}
        """For each executor from before the world, by identity: it, and the double that runs its jobs here."""
        self.watch: Watcher | None = None
        """Who is told what the threads are about to access, where they may be preempted."""
        self.watching: Callable[[], AbstractContextManager[None]] | None = None
        """In its block a thread tells the watch."""
        self.follow: Callable[[FrameType], None] | None = None
        """Called with the frame of the body's thread when that starts another one: from then on it tells the watch."""
        self._looked_at = -1
        """After how many decisions the event loop's thread was last found to look at the clock again and again."""
        self.children: Pace | None = None
        """The processes that its threads have started, if any."""
        self.getters: dict[int, deque[ThreadRecord] | None] = {}
        """For each ``SimpleQueue``, by identity: the threads that wait for an item; ``None``: it is older than this."""

    @cached_property
    def entropy(self) -> Random:
        """The seeded generator in place of the machine's own randomness."""
        return Random(self._seed)

    def new_loop(self) -> AbstractEventLoop:
        """An event loop for the calling thread. Raises ``RuntimeError`` in a world without ``new_loop``."""
        if self._new_loop is None:
            raise RuntimeError("this world makes no event loops")
        return self._new_loop(self)

    @property
    def is_alone(self) -> bool:
        """Whether the body has nobody to race with: it has started no thread that is left, and no worker has.

        While the workers themselves run, it waits for them.
        """
        return all(one.done or one is self.root or worker_number(one.name) >= 0 for one in self.all)

    def fire(self, when: float) -> None:
        """As the scheduler does, when processes of the body's have had the time for it."""
        if self._keep_pace(when - self.now):
            super().fire(when)

    def overlooked(self) -> float:
        """As the scheduler does, and as :meth:`fire`."""
        seconds = super().overlooked()
        self._keep_pace(seconds)
        return seconds

    def look(self) -> None:
        """The event loop's thread looks at the clock again and again: time passes."""
        if self.steps != self._looked_at:
            self._looked_at = self.steps
            self.now += self.overlooked()
            return
        seconds = self.look_seconds  # in one turn: no task can go on meanwhile
        self._stand(seconds)
        self._keep_pace(seconds)
        self.now += seconds

    def sleep(self, record: ThreadRecord, seconds: float) -> None:
        """``time.sleep`` in simulated time. On an event loop's thread it blocks all tasks, as it does in real time."""
        if record is self.loop_record and seconds > 0:
            self._stand(seconds)
        super().sleep(record, seconds)

    def _stand(self, seconds: float) -> None:
        if self.patience.stand(seconds):
            self.sort_timers()

    def _keep_pace(self, seconds: float) -> bool:
        """Let processes have their time; ``False`` if a thread has come back from outside meanwhile, and can go on."""
        if self.children is None:
            return True
        could_run = len(self.ready)
        if self.me() is not None:  # the watchdog must not sleep: it keeps threads from coming back
            self.children.keep_pace(seconds, lambda: len(self.ready) == could_run)
        return len(self.ready) == could_run

    def until(self, timeout: float | None) -> float | None:
        """The time at which a wait of ``timeout`` seconds ends that begins now; ``None``: never."""
        return None if timeout is None else self.now + checked_timeout(timeout)

    def drop(self, dead: int) -> None:
        """Worker number ``dead`` never runs again: take its threads and handles out of the ready queue."""
        with self.mutex:  # a thread that comes back from outside meanwhile must not queue up
            self.dead.add(dead)
            for item in [item for item in tuple(self.ready) if self.worker_of(item) == dead]:
                self.ready.remove(item)
            self.patience.drop(dead)
            for loop in self.loops:
                loop.drop(dead)
            for record in self.all:
                if record.worker == dead and record.state not in _ENDED:
                    record.kill()
                    if record.leave is not None:
                        record.leave(record)

    def stop(self) -> list[ThreadRecord]:
        """End the remaining threads, then the remaining tasks. Returns the threads that could not be ended."""
        left = super().stop()
        if self.dead or any(loop.unfinished for loop in self.loops):
            with warnings.catch_warnings():  # killed workers could not close their resources
                warnings.simplefilter("ignore")
                for loop in self.loops:
                    self.ask(loop.close_pending_tasks)
                gc.collect(0)  # the youngest generation: unreachable objects made in this run
        return left

    def places(self) -> list[str]:
        """Where the threads of workers are that have not ended, for the report of a run without end."""
        return [
            f"{record.name} is at {thread_place(record.ident)}"
            for record in self.all
            if record.worker >= 0 and record is not self.root and record.state not in _ENDED
        ]

    def waits(self) -> list[str]:
        """What each thread waits for, for the report of a deadlock. The root, which tells it, has waited for a lock."""
        return [
            record.why.sentence()
            if isinstance(record.why, LockWait)
            else f"{record.name} waits for {record.why() if callable(record.why) else record.why}"
            for record in self.all
            if (isinstance(record.why, LockWait) if record is self.root else record.state is ThreadState.WAITING)
        ]

    def release(self) -> None:
        """Break the references between the world's parts, so that they are freed without the collector.

        Only the time can be read afterwards: the service still needs it.
        """
        for loop in self.loops:
            loop.disconnect()
        self.loops.clear()
        if self.wires is not None:
            self.wires.close()
        self.all.clear()
        self.records.clear()
        self.patience.forget()
        self.heaps.clear()
        self._new_loop = self._on_death = None
        self.last_resort: Callable[[], bool] | None = None
