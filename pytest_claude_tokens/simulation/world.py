"""A world: one scheduler for two kinds of runnable, callbacks of event loops and threads under a baton.

Of all threads of a world one runs at a time: the *holder* of the baton. Whoever comes to a switch point asks
:meth:`World.decide` who goes on, hands the baton over and parks.

A thread may block on something that we do not see (a lock from before the world, a read from a pipe). The watchdog
notices that the holder sleeps, and the others go on; it queues up again at its next switch point.
"""

from __future__ import annotations

import gc
import itertools
import warnings
from contextlib import suppress
from functools import cached_property
from random import Random
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.native import allocate_rlock
from pytest_claude_tokens.simulation.scheduler import Scheduler
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck, ThreadRecord, WouldWait, target

if TYPE_CHECKING:
    from asyncio import Handle
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.loop import NumberedLoop
    from pytest_claude_tokens.simulation.network import Network
    from pytest_claude_tokens.simulation.schedule import Chooser

__all__ = ["World", "target"]

_SERIALS = itertools.count(1)
STUBBORN = 2.0
"""Real seconds that a thread gets to end in when its world has ended."""


class World(Scheduler):
    """Everything that can run in one run of a body, and its clock."""

    def __init__(self, chooser: Chooser, workers: int, seed: int = 0) -> None:
        super().__init__(chooser)
        self.serial = next(_SERIALS)
        self._seed = seed
        self.workers = workers
        self.records: dict[int, ThreadRecord] = {}
        self.all: list[ThreadRecord] = []
        self.root = self.register("main", -1)
        self.root.bind()
        self.root.inside = False
        self.records[self.root.ident] = self.root
        self.holder: ThreadRecord | None = self.root
        self.handovers = 0
        self.mutex = allocate_rlock()
        self.stopping = False
        self.stuck = False
        self.asking = False
        """Whether a callable of the user's is asked what is in a store: it must not wait, and nobody switches."""
        self.stuck_at: list[tuple[str, str]] = []
        self.loops: list[NumberedLoop] = []
        """The event loops of the world, which are closed with it."""
        self.new_network: Callable[[], Network] | None = None
        """Makes the network of one more event loop."""
        self.doubles: dict[int, tuple[Any, Any]] = {}
        """By the identity of an executor from before the world: it, and what does its jobs in the world."""

    @cached_property
    def entropy(self) -> Random:
        """What stands for the machine's own randomness."""
        return Random(self._seed)

    def drop(self, dead: int) -> None:
        """Worker number ``dead`` never runs again: what of it is ready is forgotten."""
        self.dead.add(dead)
        for item in [item for item in self.ready if self.target_of(item) == dead]:
            self.ready.remove(item)
        for loop in self.loops:
            loop.drop(dead)
        for record in self.all:
            if record.target == dead and not record.killed:
                record.killed = True
                if record.leave is not None:
                    record.leave(record)

    def waits(self) -> list[str]:
        """Who waits for what: for the report of a deadlock."""
        return [
            f"{record.name} waits for {record.why() if callable(record.why) else record.why}"
            for record in self.all
            if record.waiting and not record.done and record is not self.root
        ]

    # The baton.

    def register(self, name: str, number: int) -> ThreadRecord:
        """A new record, which is not ready yet."""
        record = ThreadRecord(name, number, len(self.all))
        self.all.append(record)
        return record

    def ask(self, call: Callable[[], object]) -> object:
        """Call ``call`` without any switch; one that would have to wait raises :class:`WouldWait`."""
        before, self.asking = self.asking, True
        try:
            return call()
        finally:
            self.asking = before

    def me(self) -> ThreadRecord | None:
        """The calling thread's record, if it is of this world."""
        return self.records.get(get_ident())

    def pause(self, record: ThreadRecord, *, rotate: bool = False) -> None:
        """A switch point of the holder, which can go on. ``rotate``: the others come first in default order."""
        if self.asking:
            return
        self._enter(record)
        try:
            if record is self.loop_record or self.stopping:
                return
            if rotate:
                self.ready.append(record)
            else:
                self.ready.appendleft(record)
                self._round += 1
            self._pass_on(record)
        finally:
            record.inside = False

    def block(self, record: ThreadRecord, why: Callable[[], str] | str, timeout: float | None = None) -> bool:
        """Park the holder until :meth:`wake` or until ``timeout`` simulated seconds have passed (then ``False``).

        Raises :class:`Stuck` in the root where nobody can ever run again, and :class:`Stopped` in a thread that is
        to end.
        """
        if self.asking:
            raise WouldWait(f"a callable that stands for a store waits for {why() if callable(why) else why}")
        self._enter(record)
        record.waiting, record.timed_out, record.why = True, False, why
        if timeout is not None:
            self.set_timer(record, timeout)
        try:
            self._pass_on(record)
        finally:
            record.timer = 0
            record.waiting = False
            record.inside = False
        return not record.timed_out

    def sleep(self, record: ThreadRecord, seconds: float) -> None:
        """``time.sleep`` in simulated time. On an event loop's thread it stops all tasks, as it really would."""
        if seconds <= 0:
            self.pause(record, rotate=True)
        else:
            self.block(record, f"time.sleep({seconds:g})", seconds)

    def start(self, record: ThreadRecord) -> None:
        """A new thread waits for the baton for the first time."""
        record.bind()
        self.records[record.ident] = record
        record.gate.acquire()
        record.inside = False
        if self.stopping or record.killed:
            raise Stopped

    def finish(self, record: ThreadRecord) -> None:
        """The thread ends: the baton goes on and does not come back."""
        record.inside = True
        if record.outside:
            with suppress(Stopped):
                self._return(record)
        record.done = True
        self.records.pop(record.ident, None)
        for joiner in record.joiners:
            self.wake(joiner)
        if not self.stopping:
            self._deliver(self.decide())
        elif not record.outside:
            self._give(self.root)

    def loop_next(self) -> Handle | None:
        """For the thread of the event loop: run threads until one of the loop's own handles is chosen.

        ``None``: nobody can ever run again.
        """
        record = self.loop_record
        assert record is not None
        record.inside = True
        if record.outside:
            self._return(record)
        self.at_loop = True
        item = self.decide()
        if item is None or isinstance(item, ThreadRecord):
            record.inbox = None
            if item is None and self._is_over():
                record.inside = self.at_loop = False
                return None
            self._deliver(item)
            record.gate.acquire()
            item = record.inbox
        record.inside = self.at_loop = False
        return item  # type: ignore[no-any-return]  # what is no record is a handle

    def stop(self) -> list[ThreadRecord]:
        """End every thread that is left, one by one; returns those that could not be ended."""
        with self.mutex:
            self.stopping = True
        left = []
        for record in self.all:
            if record is self.root or record.done:
                continue
            if record.outside:
                left.append(record)
                continue
            self._give(record)
            if not self.root.gate.acquire(timeout=STUBBORN):
                record.outside = True
                left.append(record)
        self.holder = None
        if self.dead or any(loop.unfinished for loop in self.loops):
            with warnings.catch_warnings():  # those that have died have closed nothing: that is our doing
                warnings.simplefilter("ignore")
                for loop in self.loops:
                    self.ask(loop.bury)
                gc.collect(0)  # what was made in this run, and is no more
        return left

    def forget(self) -> None:
        """Nobody asks for more than the time any more: let go of all else, so that it is gone without the collector."""
        for loop in self.loops:
            loop.disconnect()
        self.loops.clear()
        self.all.clear()
        self.records.clear()
        self.new_network = self.on_death = None

    def rescue(self, record: ThreadRecord) -> None:
        """The watchdog has seen that the holder is blocked outside our view: the others go on without it."""
        with self.mutex:
            if self.holder is not record or self.stopping or record.inside:
                return
            record.outside = True
            if record.inside:  # it has come to a switch point at this very moment
                record.outside = False
            else:
                self._deliver(self.decide())

    def give_up(self) -> bool:
        """The watchdog has waited long enough for those outside: the root goes on, to say so; ``False``: it can't."""
        with self.mutex:
            if self.root.outside or self.holder is self.root:
                return False
            if self.holder is None and not self.stopping:
                self.stuck = True
                self._give(self.root)
            return True

    def outsiders(self) -> list[ThreadRecord]:
        """Those that are blocked where we do not see, and that may come back."""
        return [record for record in self.all if record.outside and not record.done and not record.killed]

    def _is_over(self) -> bool:
        """Whether nobody can ever run again. One of those outside may have come back since nobody was found."""
        with self.mutex:
            return not self.ready and not self.outsiders()

    def _enter(self, record: ThreadRecord) -> None:
        """``record`` is at a switch point. The order matters: see :meth:`rescue`."""
        record.inside = True
        if record.outside:
            self._return(record)
        if self.stopping and record is not self.root:
            record.inside = False
            raise Stopped

    def _pass_on(self, record: ThreadRecord) -> None:
        item = self.decide()
        if item is record:
            return
        if item is None and record is self.root and self._is_over():
            self.stuck = True
            raise Stuck
        self._deliver(item)
        record.gate.acquire()
        if record is self.root:
            if self.stuck:
                raise Stuck
        elif self.stopping or record.killed:
            raise Stopped

    def _deliver(self, item: Any) -> None:
        """Hand the baton to a record, or to the loop's thread for a handle."""
        if isinstance(item, ThreadRecord):
            self._give(item)
        elif item is not None:
            assert self.loop_record is not None
            self.loop_record.inbox = item
            self._give(self.loop_record)
        elif not self._leave_idle():
            self.stuck = True
            self._give(self.root)

    def _leave_idle(self) -> bool:
        """Nobody holds the baton until one of those outside comes back; ``False`` where nobody is outside."""
        with self.mutex:
            if any(isinstance(item, ThreadRecord) for item in self.ready):  # it has just come back
                self._deliver(self.decide())
            elif self.outsiders():
                self.holder = None
            else:
                return False
            return True

    def _give(self, record: ThreadRecord) -> None:
        self.handovers += 1
        self.holder = record
        record.gate.release()

    def _return(self, record: ThreadRecord) -> None:
        """A thread that was blocked outside our view is at a switch point again."""
        with self.mutex:
            if not record.outside:
                return
            if self.stopping and record is not self.root:
                raise Stopped
            record.outside = False
            if record.killed:
                if self.holder is None:
                    self._deliver(self.decide())
            elif self.holder is None:
                self.holder = record
                return
            else:
                self.ready.append(record)
        record.gate.acquire()
        if record is not self.root and (self.stopping or record.killed):
            raise Stopped
