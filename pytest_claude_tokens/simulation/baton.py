"""The baton: of all threads of a world one runs at a time.

Who holds it
------------
The *holder* of the baton is the one thread that may run code of the test, or touch the queue, the timers and the
records. It hands the baton on at a *switch point* only: where it yields (:meth:`Baton.pause`), waits
(:meth:`Baton.block`), ends (:meth:`Baton.finish`) or, as the thread of the one event loop, wants its next handle
(:meth:`Baton.loop_next`). There the holder itself asks the scheduler who goes on, and wakes that thread by releasing
its ``run_lock``; then it parks, by acquiring its own. There is no thread of a scheduler: where the answer is the holder
itself, nothing is switched at all. A run lock is released once for each time that its thread goes on, so the order of
release and acquire does not matter, and no wake-up is lost.

The *root* is the thread that runs the body. It is the one that learns of the end of all (:class:`Stuck`), and the one
that ends all others (:meth:`Baton.stop`).

Outside
-------
A holder may block on something that the simulation does not see: a lock of the interpreter's, a read from a pipe. Then
all would wait for it. So the watchdog looks, and takes the baton from a holder that sleeps (:meth:`Baton.rescue`): its
state is OUTSIDE, and another one is the holder, or nobody is until somebody comes back. Everything that one outside
does until its next switch point runs beside the holder; it is code of the test's, and nothing of the world's is touched
by it. At that switch point it queues up, or takes a baton that nobody holds (``_return``).

Inside
------
A thread is *inside* from the entry of a switch point to its end, parked or not. There it is in the middle of changing
the world, or asleep because it does not have the baton, and the watchdog must not take it for one that is blocked: the
baton would be handed on twice, and two threads would run at once.

Two threads decide here at the same time: the holder says "I am inside", the watchdog says "this one is outside". A lock
around each switch point would settle that, at the price of a lock for millions of steps. Instead each writes its own
word first and reads the other's second:

* ``_enter``: sets ``inside``, *then* looks at ``suspect`` and at its state. Where there is a suspect, or it runs no
  more as far as the others know, it takes the mutex, and so waits for the end of the rescue.
* ``rescue``: under the mutex, sets ``suspect``, *then* looks at ``inside``. If that is set, the holder is at a switch
  point after all, and nothing is done. If not, the state is OUTSIDE, and only then the baton goes on.

Whatever the interleaving, one of the two sees the other; both may, and then the rescue gives way. With either order
reversed both could miss it. The state itself is never the signal: the holder writes it all the time without the mutex,
and a rescue that put it back might put back one that is older than what the holder has just written.

What each transition guarantees
-------------------------------
* to RUNNING: the thread is the holder, and was made so by the one before it, under no lock: there was no other thread
  to exclude. Exceptions: it takes the baton that nobody holds (under the mutex), and the end of the world, below.
* to READY: it is in the queue, once. One that yields is in the queue as well, but RUNNING until the baton leaves it.
* to WAITING: it is not in the queue; ``wake``, or its timer, puts it there, and that happens once, as it is READY then.
* to OUTSIDE and back: under the mutex.
* to KILLED: it is in no queue, neither of the world nor of a lock, and gets the baton once more: from
  :meth:`Baton.stop`, to end.
* to DONE: it has left ``records``, and all who join it are awake.

The end
-------
:meth:`Baton.stop` gives the baton to each thread that is left, one by one, and waits for it: the next switch point of
each raises :class:`Stopped`, so that it unwinds. One that does not end, or is outside, is left behind; its ``Stopped``
comes when it returns, and by then it must not touch the baton, nor wake the root for a second time.
"""

from __future__ import annotations

from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.native import allocate_rlock
from pytest_claude_tokens.simulation.scheduler import Scheduler
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck, ThreadRecord, ThreadState, WouldWait

if TYPE_CHECKING:
    from asyncio import Handle
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.chooser import Chooser

__all__ = ["END_TIMEOUT_SECONDS", "Baton"]

END_TIMEOUT_SECONDS = 2.0
"""Real seconds that a thread gets to end in when its world has ended."""
_RUNNING, _OUTSIDE = ThreadState.RUNNING, ThreadState.OUTSIDE


class Baton(Scheduler):
    """Lets one of the threads run at a time, as the scheduler decides. The thread that makes it is the root."""

    def __init__(self, chooser: Chooser, on_death: Callable[[str, int], None] | None = None) -> None:
        super().__init__(chooser, on_death)
        self.records: dict[int, ThreadRecord] = {}
        """By the identity of the thread: those that have started and not ended."""
        self.all: list[ThreadRecord] = []
        self.root = self.register("main", -1)
        self.root.bind()
        self.root.inside = False
        self.root.run()
        self.records[self.root.ident] = self.root
        self.holder: ThreadRecord | None = self.root
        self.suspect: ThreadRecord | None = None
        """The holder, while the watchdog finds out whether it may take the baton from it."""
        self.handovers = 0
        self.mutex = allocate_rlock()
        self.stopping = False
        self.stuck = False
        self.stuck_at: list[tuple[str, str]] = []
        """Names and places of those that were outside when the run was given up."""
        self.asking = False
        """Whether a callable of the user's is asked what is in a store: it must not wait, and nobody switches."""

    def register(self, name: str, number: int) -> ThreadRecord:
        """A new record, which is not ready yet."""
        record = ThreadRecord(name, number, len(self.all))
        self.all.append(record)
        return record

    def me(self) -> ThreadRecord | None:
        """The calling thread's record, if it is of this world."""
        return self.records.get(get_ident())

    def ask(self, call: Callable[[], object]) -> object:
        """Call ``call`` without any switch; one that would have to wait raises :class:`WouldWait`."""
        before, self.asking = self.asking, True
        try:
            return call()
        finally:
            self.asking = before

    # Switch points.

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
        record.wait()
        record.why = why
        if timeout is not None:
            self.set_timer(record, timeout)
        try:
            self._pass_on(record)
            return record.timer == 0
        finally:
            record.timer = 0
            record.inside = False

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
        record.run_lock.acquire()
        record.inside = False
        if self.stopping or record.killed:
            raise Stopped

    def finish(self, record: ThreadRecord) -> None:
        """The thread ends: the baton goes on and does not come back."""
        record.inside = True
        with suppress(Stopped):
            self._return(record)
        with self.mutex:
            outside = record.outside  # still: the world has ended, and does not wait for it
            record.end()
        self.records.pop(record.ident, None)
        for joiner in record.joiners:
            self.wake(joiner)
        if not self.stopping:
            self._deliver(self.decide())
        elif not outside:
            self._give(self.root)

    def loop_next(self) -> Handle | None:
        """For the thread of the event loop: run threads until one of the loop's own handles is chosen.

        ``None``: nobody can ever run again.
        """
        record = self.loop_record
        assert record is not None
        record.inside = True
        if self.suspect is not None or record.state is not _RUNNING:
            self._return(record)
        record.idle()
        item = self.decide()
        if item is None or isinstance(item, ThreadRecord):
            record.inbox = None
            if item is not None or not self._is_over():
                self._deliver(item)
                record.run_lock.acquire()
                item = record.inbox
        record.run()
        record.inside = False
        return item  # type: ignore[no-any-return]  # what is no record is a handle

    def _enter(self, record: ThreadRecord) -> None:
        """``record`` is at a switch point. The order matters: see the top of the module."""
        record.inside = True
        if self.suspect is not None or record.state is not _RUNNING:
            self._return(record)
        if self.stopping and record is not self.root:
            record.inside = False
            raise Stopped

    def _pass_on(self, record: ThreadRecord) -> None:
        """The holder hands the baton on, and comes back with it."""
        item = self.decide()
        if item is record:
            if record.state is not _RUNNING:
                record.run()
            return
        if record.state is _RUNNING:  # it yields: it is in the queue already
            record.queue()
        if item is None and record is self.root and self._is_over():
            self.stuck = True
            record.run()
            raise Stuck
        self._deliver(item)
        record.run_lock.acquire()
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

    def _give(self, record: ThreadRecord) -> None:
        self.handovers += 1
        self.holder = record
        record.run()
        record.run_lock.release()

    # Those outside.

    def rescue(self, record: ThreadRecord) -> None:
        """The watchdog has seen that the holder sleeps outside the simulation: the others go on without it."""
        with self.mutex:
            if self.holder is not record or self.stopping:
                return
            self.suspect = record
            try:
                if record.inside:  # it is at a switch point after all
                    return
                record.lose()
            finally:
                self.suspect = None
            self._deliver(self.decide())

    def give_up(self, stuck_at: list[tuple[str, str]]) -> bool:
        """The watchdog has waited long enough for those outside: the root goes on, to say so; ``False``: it can't.

        ``stuck_at``: names and places of those outside.
        """
        with self.mutex:
            self.stuck_at = stuck_at
            if self.root.outside or self.holder is self.root:
                return False
            if self.holder is None and not self.stopping:
                self.stuck = True
                self._give(self.root)
            return True

    def give_up_root(self) -> None:
        """The root itself is stuck outside, and is about to be interrupted."""
        self.stuck = True

    def outsiders(self) -> list[ThreadRecord]:
        """Those that are blocked where the simulation does not see, and that may come back."""
        return [record for record in self.all if record.state is _OUTSIDE]

    def _is_over(self) -> bool:
        """Whether nobody can ever run again. One of those outside may have come back since nobody was found."""
        with self.mutex:
            return not self.ready and not self.outsiders()

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

    def _return(self, record: ThreadRecord) -> None:
        """A thread that was outside, or has been killed meanwhile, is at a switch point: see who has the baton."""
        with self.mutex:
            if record.state is _RUNNING:
                return
            if self.stopping and record is not self.root:
                raise Stopped
            if record.killed:
                record.come_back()
                if self.holder is None or self.holder is record:
                    self._deliver(self.decide())
            elif self.holder is None:
                self.holder = record
                record.run()
                return
            else:
                record.queue()
                self.ready.append(record)
        record.run_lock.acquire()
        if record is not self.root and (self.stopping or record.killed):
            raise Stopped

    # The end.

    def stop(self) -> list[ThreadRecord]:
        """End every thread that is left, one by one; returns those that could not be ended."""
        with self.mutex:
            self.stopping = True
        left = [
            record
            for record in self.all
            if record is not self.root and not record.done and (record.outside or not self._end(record))
        ]
        self.holder = None
        return left

    def _end(self, record: ThreadRecord) -> bool:
        """Give the baton to a thread that must end, and wait until it comes back; ``False``: it does not."""
        self._give(record)
        if self.root.run_lock.acquire(timeout=END_TIMEOUT_SECONDS):
            return True
        with self.mutex:
            if not record.done:
                record.lose()
                return False
        self.root.run_lock.acquire()  # it has ended at this very moment
        return True

    def waits(self) -> list[str]:
        """Who waits for what: for the report of a deadlock."""
        return [
            f"{record.name} waits for {record.why() if callable(record.why) else record.why}"
            for record in self.all
            if record.state is ThreadState.WAITING and record is not self.root
        ]
