"""The baton: of all threads of a world, only the one that holds it runs.

Who holds it
------------
The *holder* of the baton is the one thread that may run code of the test, or touch the queue, the timers and the
records. It hands the baton on at a *switch point* only: where it yields (:meth:`Baton.pause`), waits
(:meth:`Baton.block`), ends (:meth:`Baton.finish`) or, as the thread of the one event loop, wants its next handle
(:meth:`Baton.loop_next`). There the holder itself asks the scheduler who goes on, and wakes that thread by releasing
its ``run_lock``; then it parks, by acquiring its own. The scheduler has no thread: where it chooses the holder again,
nothing is switched at all. A run lock is released once for each time that its thread goes on, so the order of
release and acquire does not matter, and no wake-up is lost.

The *root* is the thread that runs the body. It is told when nothing can run any more (:class:`Stuck`), and it ends all
other threads (:meth:`Baton.stop`).

Outside
-------
A holder may block on something that the simulation does not see: a lock of the interpreter's, a read from a pipe. Every
other thread would then wait for it. So the watchdog takes the baton from a holder that sleeps (:meth:`Baton.rescue`):
that thread's state becomes OUTSIDE, and another thread holds the baton, or none until one returns from outside. A
thread outside runs beside the holder until its next switch point; what it runs until then is the test's code, which
does not touch the world. At that switch point it queues up, or takes the baton if no thread holds it (``_return``).

Inside
------
A thread is *inside* from the entry of a switch point to its end, parked or not. There it is changing the world, or
asleep because it does not have the baton. The watchdog must not mistake it for a blocked thread: the baton would be
handed on twice, and two threads would run at once.

Two threads decide here at the same time: the holder declares itself inside, the watchdog declares it outside. A lock
around each switch point would settle that, but it would be taken at each of millions of steps. Instead each of the two
writes its own flag first and reads the other's second:

* ``_enter`` and ``loop_next``: set ``inside``, *then* read ``suspect`` and the thread's own state. If there is a
  suspect, or the state is no longer RUNNING, the thread takes the mutex, and so waits for the end of the rescue.
* ``rescue``: under the mutex, sets ``suspect``, *then* reads ``inside``. If that is set, the holder is at a switch
  point after all, and nothing is done. If not, the state becomes OUTSIDE, and only then is the baton handed on.

Whatever the interleaving, at least one of the two sees the other's flag; if both do, the rescue gives way. With either
order reversed, both could miss it. The state itself can't be the flag: the holder writes it without the mutex, and a
rescue that restored it might overwrite a newer state with an older one.

The collector may run a finalizer in the middle of a switch point, and that finalizer may take a lock, which is a switch
point, too. The thread is inside already, and its state may be WAITING: it must not enter a second time, or it would be
in the queue twice. So there is no switch in there, and a finalizer that would have to wait gets :class:`WouldWait`.

What each transition guarantees
-------------------------------
* to RUNNING: the thread is the holder. The previous holder made it so, without a lock, as no other thread could run.
  Exceptions: it takes a baton that no thread holds (under the mutex), and the end of the world, below.
* to READY: it is in the queue, once. One that yields is in the queue as well, but RUNNING until the baton leaves it.
* to WAITING: it is not in the queue; ``wake`` or its timer puts it there, only once, since it is READY afterwards.
* to OUTSIDE and back: under the mutex.
* to KILLED: it is in no queue, neither of the world nor of a lock, and gets the baton once more: from
  :meth:`Baton.stop`, to end.
* to DONE: it has left ``records``, and all threads that join it are awake.

The end
-------
:meth:`Baton.stop` gives the baton to each remaining thread, one by one, and waits for it: the next switch point of
each raises :class:`Stopped`, so that it unwinds. A thread that does not end, or is outside, is left behind; it gets its
``Stopped`` when it returns, and must then neither touch the baton nor wake the root for a second time.
"""

from __future__ import annotations

from _thread import get_ident
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.forked import is_forked
from pytest_claude_tokens.simulation.interrupts import CLEAN_UP_SECONDS, INTERRUPT
from pytest_claude_tokens.simulation.native import allocate_rlock, monotonic
from pytest_claude_tokens.simulation.scheduler import SLOW_SECONDS, Scheduler
from pytest_claude_tokens.simulation.takeover import END_TIMEOUT_SECONDS, LEAST_SECONDS, refuse, wait_for_baton
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck, ThreadRecord, ThreadState, WouldWait

if TYPE_CHECKING:
    import threading
    from asyncio import Handle
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.chooser import Chooser

__all__ = ["Baton"]

_RUNNING, _OUTSIDE = ThreadState.RUNNING, ThreadState.OUTSIDE


class Baton(Scheduler):
    """Lets one thread run at a time, as the scheduler decides. The thread that creates it is the root."""

    def __init__(
        self, chooser: Chooser, on_death: Callable[[str, int], None] | None = None, *, slow: float = SLOW_SECONDS
    ) -> None:
        super().__init__(chooser, on_death, slow=slow)
        self.records: dict[int, ThreadRecord] = {}
        """The threads that have started and not ended, by the thread's identity."""
        self.all: list[ThreadRecord] = []
        self.root: ThreadRecord = self.register("main", -1)
        self.root.bind()
        self.root.inside = False
        self.root.run()
        self.records[self.root.ident] = self.root
        self.holder: ThreadRecord | None = self.root
        self.suspect: ThreadRecord | None = None
        """The holder, while the watchdog finds out whether it may take the baton away."""
        self.handovers: int = 0
        self.mutex: threading.RLock = allocate_rlock()
        self.stopping: bool = False
        self.stuck: bool = False
        self.stuck_at: list[tuple[str, str]] = []
        """Names and places of the threads that were outside when the run was given up."""
        self.asking: bool = False
        """Whether a user's callable is being asked for a store's content: it must not wait, and no thread switches."""

    def register(self, name: str, number: int) -> ThreadRecord:
        """A new record, which is not ready yet."""
        record = ThreadRecord(name, number, len(self.all))
        self.all.append(record)
        return record

    def me(self) -> ThreadRecord | None:
        """The calling thread's record, if it belongs to this world."""
        return self.records.get(get_ident())

    def ask(self, call: Callable[[], object]) -> object:
        """Call ``call`` without any switch; where it would have to wait, :class:`WouldWait` is raised in it."""
        before, self.asking = self.asking, True
        try:
            return call()
        finally:
            self.asking = before

    # Switch points.

    def pause(self, record: ThreadRecord, *, rotate: bool = False) -> None:
        """A switch point of a holder that can go on. ``rotate``: in default order the other threads go first.

        In the middle of another switch point of the same thread it does nothing: see the top of the module.
        """
        if self.asking or record.inside:
            return
        self._enter(record)
        try:
            if record is self.loop_record or self.stopping or INTERRUPT.error is not None:
                return
            if rotate or self.is_idle:
                self.ready.append(record)
            else:
                self.ready.appendleft(record)
                self._round += 1
            self._pass_on(record)
        finally:
            record.inside = False

    def block(self, record: ThreadRecord, why: Callable[[], str] | str, timeout: float | None = None) -> bool:
        """Park the holder until :meth:`wake` or until ``timeout`` simulated seconds have passed (then ``False``).

        Raises :class:`Stuck` in the root where nothing can ever run again, and :class:`Stopped` in a thread that must
        end.
        """
        if self.asking:
            raise WouldWait(f"a callable that stands for a store waits for {why() if callable(why) else why}")
        if record.inside:
            raise WouldWait(f"a finalizer waits for {why() if callable(why) else why}")
        self._enter(record, waits=True)
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
        """``time.sleep`` in simulated time. On an event loop's thread it blocks all tasks, as it does in real time."""
        if seconds <= 0:
            self.pause(record, rotate=True)
        else:
            self.block(record, f"time.sleep({seconds:g})", seconds)

    def start(self, record: ThreadRecord) -> None:
        """A new thread waits for its first turn with the baton."""
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
            outside = record.outside  # still outside: the world has ended without waiting for it
            record.end()
        self.records.pop(record.ident, None)
        self.progress()
        for joiner in record.joiners:
            self.wake(joiner)
        if not self.stopping:
            self._deliver(self.decide())
        elif not outside:
            self._give(self.root)

    def loop_next(self) -> Handle | None:
        """For the thread of the event loop: run threads until one of the loop's own handles is chosen.

        ``None``: nothing can ever run again.
        """
        record = self.loop_record
        assert record is not None
        record.inside = True  # first of all: see the top of the module
        if self.suspect is not None or record.state is not _RUNNING:
            self._come_back(record)
        record.idle()
        item = self.decide()
        if item is None or isinstance(item, ThreadRecord):
            record.inbox = None
            if item is not None or not self._is_over():
                self._deliver(item)
                self._park(record)
                item = record.inbox
        record.run()
        record.inside = False
        if INTERRUPT.error is not None and not self._ending:
            INTERRUPT.check()
        return item  # type: ignore[no-any-return]  # anything but a record is a handle

    def _enter(self, record: ThreadRecord, *, waits: bool = False) -> None:
        """``record`` is at a switch point."""
        record.inside = True  # first of all: see the top of the module
        if self.suspect is not None or record.state is not _RUNNING:
            self._come_back(record)
        if self.stopping or INTERRUPT.error is not None:
            refuse(self, record, waits=waits)

    def _come_back(self, record: ThreadRecord) -> None:
        try:
            self._return(record)
        except Stopped:
            record.inside = False  # the thread unwinds, and meets further switch points on its way
            raise

    def _pass_on(self, record: ThreadRecord) -> None:
        """Hand the baton on; returns when ``record`` has it again."""
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
        self._park(record)
        if record is self.root:
            INTERRUPT.check()
            if self.stuck:
                raise Stuck
        elif self.stopping or record.killed:
            raise Stopped

    def _park(self, record: ThreadRecord) -> None:
        """Wait for the baton."""
        if record is self.root:
            wait_for_baton(self)
        elif not is_forked():
            record.run_lock.acquire()

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

    # Threads outside.

    def rescue(self, record: ThreadRecord) -> None:
        """Called by the watchdog when the holder sleeps outside the simulation: the other threads go on without it."""
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
        """Called by the watchdog when the threads outside have timed out: the root runs and reports it.

        ``stuck_at``: names and places of the threads outside. ``False`` if the root can't run, as it is outside itself.
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
        """Called when the root itself is stuck outside, before a signal interrupts it."""
        self.stuck = True

    def outsiders(self) -> list[ThreadRecord]:
        """The threads that are blocked outside the simulation and may come back."""
        return [record for record in self.all if record.state is _OUTSIDE]

    def _is_over(self) -> bool:
        """Whether nothing can ever run again. A thread may have come back from outside since ``decide`` found none."""
        with self.mutex:
            return not self.ready and not self.outsiders()

    def _leave_idle(self) -> bool:
        """Leave the baton without a holder until a thread comes back from outside; ``False`` where none is outside."""
        with self.mutex:
            if self._threads():  # it has just come back
                self._deliver(self.decide())
            elif self.outsiders():
                self.holder = None
            else:
                return False
            return True

    def _return(self, record: ThreadRecord) -> None:
        """At a switch point of a thread that was outside or has been killed: wait for the baton, or take a free one."""
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
        self._park(record)
        if record is not self.root and (self.stopping or record.killed):
            raise Stopped

    # The end.

    def stop(self) -> list[ThreadRecord]:
        """End every remaining thread, one by one; returns those that could not be ended."""
        with self.mutex:
            self.stopping = True
        until = monotonic() + (END_TIMEOUT_SECONDS if INTERRUPT.error is None else CLEAN_UP_SECONDS)
        left = [
            record
            for record in self.all
            if record is not self.root and not record.done and (record.outside or not self._end(record, until))
        ]
        self.holder = None
        return left

    def _end(self, record: ThreadRecord, until: float) -> bool:
        """Give the baton to a thread that must end, and wait until it is back; ``False`` if the thread does not end."""
        self._give(record)
        if self.root.run_lock.acquire(timeout=max(LEAST_SECONDS, until - monotonic())):
            return True
        with self.mutex:
            if not record.done:
                record.lose()
                return False
        self.root.run_lock.acquire()  # it has ended at this very moment
        return True
