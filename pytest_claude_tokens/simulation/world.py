"""One scheduler for two kinds of runnable: the callbacks of a simulated event loop, and threads under a baton.

Of all threads of a world one runs at a time: the *holder* of the baton. Whoever comes to a switch point asks
:meth:`World.decide` who goes on, hands the baton over and parks. Time is simulated: it stands still while somebody
can run and jumps to the next timer when nobody can (or when the schedule says so).

A thread may block on something that we do not see (a lock from before the world, a read from a pipe). The watchdog
notices that the holder sleeps, and the others go on; it queues up again at its next switch point.
"""

from __future__ import annotations

import heapq
from collections import deque
from contextlib import suppress
from random import Random
from threading import get_ident, get_native_id
from typing import TYPE_CHECKING, Any

from fake_server.actors import WORKER
from pytest_claude_tokens.simulation.native import allocate_lock, allocate_rlock
from pytest_claude_tokens.simulation.schedule import CLOCK

if TYPE_CHECKING:
    from asyncio import Handle
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.schedule import Chooser

__all__ = ["EPOCH", "Carrier", "Stopped", "Stuck", "World", "WouldWait", "target"]

EPOCH = 1767225600.0
"""The simulated time at which each run begins: 2026-01-01 in UTC, as POSIX seconds."""
EARLY = 60.0
"""Seconds by which early timers and slow legs may move time in one run, together."""
MAX_DECISIONS = 100_000
MAX_SECONDS = 86_400.0
STUBBORN = 2.0
"""Real seconds that a thread gets to end in when its world has ended."""


class Stopped(BaseException):
    """Raised at the switch points of threads that outlive their world, so that they end."""


class WouldWait(RuntimeError):
    """Raised where a callable that is asked for a store's content would have to wait: it can't be asked now."""


class Stuck(Exception):
    """Raised in the root: nobody can ever run again."""


class Carrier:
    """A real thread that runs under the baton. ``why``: what it waits for, for people."""

    __slots__ = (
        "done",
        "gate",
        "ident",
        "inbox",
        "index",
        "joiners",
        "killed",
        "name",
        "native",
        "outside",
        "target",
        "timed_out",
        "timer",
        "waiting",
        "why",
    )

    def __init__(self, name: str, number: int, index: int) -> None:
        self.name = name
        self.target = number
        self.index = index
        self.gate = allocate_lock()
        self.gate.acquire()
        self.ident = 0
        self.native = 0
        self.inbox: Handle | None = None
        self.joiners: list[Carrier] = []
        self.done = False
        self.killed = False
        self.outside = False
        self.waiting = False
        self.timed_out = False
        self.timer = 0
        self.why: Callable[[], str] | str = ""

    def adopt(self) -> None:
        """The calling thread is this carrier's."""
        self.ident = get_ident()
        self.native = get_native_id()


class World:
    """Everything that can run in one run of a body, and its clock."""

    def __init__(self, chooser: Chooser, workers: int, seed: int = 0) -> None:
        self.chooser = chooser
        self.entropy = Random(seed)
        self.workers = workers
        self.now = 0.0
        self.steps = 0
        self.early = EARLY
        self.ready: deque[Any] = deque()
        self.carriers: dict[int, Carrier] = {}
        self.all: list[Carrier] = []
        self.root = self.enlist("main", -1)
        self.root.adopt()
        self.carriers[self.root.ident] = self.root
        self.holder: Carrier | None = self.root
        self.loop_timers: list[Any] = []
        self.loop_carrier: Carrier | None = None
        self.handovers = 0
        self.mutex = allocate_rlock()
        self.stopping = False
        self.starved: str | None = None
        self.stuck = False
        self.on_death: Callable[[str, int], None] | None = None
        self.dead: set[int] = set()
        self.pending: list[str] = []
        self.asking = False
        """Whether a callable of the user's is asked what is in a store: it must not wait, and nobody switches."""
        self.stuck_at: list[tuple[str, str]] = []
        self._timers: list[tuple[float, int, Carrier]] = []
        self._timer_count = 0

    # Time.

    def wall(self) -> float:
        """The simulated POSIX time."""
        return EPOCH + self.now

    def spend(self, seconds: float) -> float:
        """As much of ``seconds`` as the search may still move time by; it is used up by that."""
        given = min(seconds, self.early)
        self.early -= given
        return given

    def next_timer(self) -> float | None:
        """When the next timer is due."""
        loop_timers = self.loop_timers
        while loop_timers and loop_timers[0]._cancelled:
            heapq.heappop(loop_timers)._scheduled = False
        timers = self._timers
        while timers and timers[0][2].timer != timers[0][1]:
            heapq.heappop(timers)
        if not loop_timers:
            return timers[0][0] if timers else None
        when: float = loop_timers[0]._when
        return min(when, timers[0][0]) if timers else when

    def fire(self, when: float) -> None:
        """Move the clock to ``when``, and make ready whatever is due."""
        self.now = max(self.now, when)
        due = self.now + 1e-9
        loop_timers = self.loop_timers
        while loop_timers and loop_timers[0]._when <= due:
            handle = heapq.heappop(loop_timers)
            handle._scheduled = False
            if not handle._cancelled:
                self.ready.append(handle)
        timers = self._timers
        while timers and timers[0][0] <= due:
            _, number, carrier = heapq.heappop(timers)
            if carrier.timer == number:
                carrier.timed_out = True
                self.wake(carrier)

    # Who goes on.

    def decide(self) -> Any:
        """Take the next runnable from the ready queue: a carrier or a loop's handle; ``None``: nobody can run."""
        ready, chooser = self.ready, self.chooser
        while True:
            if self.loop_carrier is not None and (self.loop_carrier.waiting or self.loop_carrier.outside):
                return self._decide_without_loop()
            if not ready:
                when = self.next_timer()
                if when is None:
                    return None
                self.fire(when)
                self._check_limits()
                continue
            if chooser.deaths and chooser.deaths[0].position <= chooser.decision:
                self._strike()
                continue
            when = self.next_timer() if self.loop_timers or self._timers else None
            if len(ready) == 1 and when is None:
                return ready.popleft()
            self.steps += 1
            if self.steps > MAX_DECISIONS:
                self._check_limits()
                continue
            if chooser.stock:
                chooser.decision += 1
                return ready.popleft()
            timer = when is not None and when - self.now <= self.early
            index = chooser.choose([self.target_of(item) for item in ready], timer)
            chooser.decision += 1
            if index == CLOCK:
                assert when is not None
                self.spend(max(0.0, when - self.now))
                self.fire(when)
                continue
            item = ready[index]
            del ready[index]
            return item

    def _decide_without_loop(self) -> Any:
        """While the loop's thread is blocked its handles can't run: threads only, in stock order."""
        while True:
            for item in self.ready:
                if isinstance(item, Carrier):
                    self.ready.remove(item)
                    return item
            when = self.next_timer()
            if when is None:
                return None
            self.fire(when)
            self._check_limits()

    def target_of(self, item: Any) -> int:
        """Which worker a runnable belongs to; a negative number for none: the task's own where it is one."""
        if isinstance(item, Carrier):
            return item.target
        name = item._context.get(WORKER)
        if name is not None:
            return target(name)
        return -1 - getattr(getattr(item._callback, "__self__", None), "number", 0)

    def drop(self, dead: int) -> None:
        """Worker number ``dead`` never runs again: what of it is ready is forgotten."""
        self.dead.add(dead)
        for item in [item for item in self.ready if self.target_of(item) == dead]:
            self.ready.remove(item)
        for carrier in self.all:
            carrier.killed = carrier.killed or carrier.target == dead

    def _strike(self) -> None:
        fact = self.chooser.deaths.pop(0)
        if self.on_death is not None and fact.target not in self.dead:
            self.on_death(fact.what, fact.target)

    def _check_limits(self) -> None:
        if self.starved is None:
            if self.steps > MAX_DECISIONS:
                self.starved = f"no end after {MAX_DECISIONS:,} decisions"
            elif self.now > MAX_SECONDS:
                self.starved = f"no end after {MAX_SECONDS:,.0f} s"
        if self.starved is not None:
            self.ready.clear()
            self._timers.clear()
            self.loop_timers.clear()

    def waits(self) -> list[str]:
        """Who waits for what: for the report of a deadlock."""
        return self.pending + [
            f"{carrier.name} waits for {carrier.why() if callable(carrier.why) else carrier.why}"
            for carrier in self.all
            if carrier.waiting and not carrier.done and carrier is not self.root
        ]

    # The baton.

    def enlist(self, name: str, number: int) -> Carrier:
        """A new carrier, which is not ready yet."""
        carrier = Carrier(name, number, len(self.all))
        self.all.append(carrier)
        return carrier

    def ask(self, call: Callable[[], object]) -> object:
        """Call ``call`` without any switch; one that would have to wait raises :class:`WouldWait`."""
        before, self.asking = self.asking, True
        try:
            return call()
        finally:
            self.asking = before

    def me(self) -> Carrier | None:
        """The calling thread's carrier, if it is of this world."""
        return self.carriers.get(get_ident())

    def pause(self, carrier: Carrier, *, rotate: bool = False) -> None:
        """A switch point of the holder, which can go on. ``rotate``: the others come first in stock order."""
        if carrier.outside:
            self._return(carrier)
        if self.stopping and carrier is not self.root:
            raise Stopped
        if carrier is self.loop_carrier or self.stopping or self.asking:
            return
        if rotate:
            self.ready.append(carrier)
        else:
            self.ready.appendleft(carrier)
        self._pass_on(carrier)

    def block(self, carrier: Carrier, why: Callable[[], str] | str, timeout: float | None = None) -> bool:
        """Park the holder until :meth:`wake` or until ``timeout`` simulated seconds have passed (then ``False``).

        Raises :class:`Stuck` in the root where nobody can ever run again, and :class:`Stopped` in a thread that is
        to end.
        """
        if carrier.outside:
            self._return(carrier)
        if self.stopping and carrier is not self.root:
            raise Stopped
        if self.asking:
            raise WouldWait(f"a callable that stands for a store waits for {why() if callable(why) else why}")
        carrier.waiting, carrier.timed_out, carrier.why = True, False, why
        if timeout is not None:
            self._timer_count += 1
            carrier.timer = self._timer_count
            heapq.heappush(self._timers, (self.now + max(0.0, timeout), carrier.timer, carrier))
        try:
            self._pass_on(carrier)
        finally:
            carrier.timer = 0
            carrier.waiting = False
        return not carrier.timed_out

    def wake(self, carrier: Carrier) -> None:
        """Make a blocked carrier ready."""
        if carrier.waiting:
            carrier.waiting = False
            carrier.timer = 0
            if not carrier.killed:
                self.ready.append(carrier)

    def sleep(self, carrier: Carrier, seconds: float) -> None:
        """``time.sleep`` in simulated time. On an event loop's thread it stops all tasks, as it really would."""
        if seconds <= 0:
            self.pause(carrier, rotate=True)
        else:
            self.block(carrier, f"time.sleep({seconds:g})", seconds)

    def start(self, carrier: Carrier) -> None:
        """A new thread waits for the baton for the first time."""
        carrier.adopt()
        self.carriers[carrier.ident] = carrier
        carrier.gate.acquire()
        if self.stopping or carrier.killed:
            raise Stopped

    def finish(self, carrier: Carrier) -> None:
        """The thread ends: the baton goes on and does not come back."""
        if carrier.outside and not self.stopping:
            with suppress(Stopped):
                self._return(carrier)
        carrier.done = True
        self.carriers.pop(carrier.ident, None)
        for joiner in carrier.joiners:
            self.wake(joiner)
        if self.stopping:
            if not carrier.outside:
                self._give(self.root)
        else:
            self._deliver(self.decide())

    def loop_next(self) -> Handle | None:
        """For the thread of the event loop: run threads until one of the loop's own handles is chosen.

        ``None``: nobody can ever run again.
        """
        carrier = self.loop_carrier
        assert carrier is not None
        if carrier.outside:
            self._return(carrier)
        carrier.inbox = None
        item = self.decide()
        if item is None or isinstance(item, Carrier):
            if item is None and not self.outsiders():
                return None
            self._deliver(item)
            carrier.gate.acquire()
            item = carrier.inbox
        return item  # type: ignore[no-any-return]  # what is no carrier is a handle

    def stop(self) -> list[Carrier]:
        """End every thread that is left, one by one; returns those that could not be ended."""
        self.stopping = True
        left = []
        for carrier in self.all:
            if carrier is self.root or carrier.done or not carrier.ident:
                continue
            if carrier.outside:
                left.append(carrier)
                continue
            self._give(carrier)
            if not self.root.gate.acquire(timeout=STUBBORN):
                carrier.outside = True
                left.append(carrier)
        self.holder = None
        return left

    def rescue(self, carrier: Carrier) -> None:
        """The watchdog has seen that the holder is blocked outside our view: the others go on without it."""
        with self.mutex:
            if self.holder is carrier and not self.stopping:
                carrier.outside = True
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

    def outsiders(self) -> list[Carrier]:
        """Those that are blocked where we do not see."""
        return [carrier for carrier in self.all if carrier.outside and not carrier.done]

    def _pass_on(self, carrier: Carrier) -> None:
        item = self.decide()
        if item is carrier:
            return
        if item is None and carrier is self.root and not self.outsiders():
            raise Stuck
        self._deliver(item)
        carrier.gate.acquire()
        if carrier is self.root:
            if self.stuck:
                raise Stuck
        elif self.stopping or carrier.killed:
            raise Stopped

    def _deliver(self, item: Any) -> None:
        """Hand the baton to a carrier, or to the loop's thread for a handle."""
        if isinstance(item, Carrier):
            self._give(item)
        elif item is not None:
            assert self.loop_carrier is not None
            self.loop_carrier.inbox = item
            self._give(self.loop_carrier)
        elif not self._leave_idle():
            self.stuck = True
            self._give(self.root)

    def _leave_idle(self) -> bool:
        """Nobody holds the baton until one of those outside comes back; ``False`` where nobody is outside."""
        with self.mutex:
            if any(isinstance(item, Carrier) for item in self.ready):  # it has just come back
                self._deliver(self.decide())
            elif self.outsiders():
                self.holder = None
            else:
                return False
            return True

    def _give(self, carrier: Carrier) -> None:
        self.handovers += 1
        self.holder = carrier
        carrier.gate.release()

    def _return(self, carrier: Carrier) -> None:
        """A thread that was blocked outside our view is at a switch point again."""
        with self.mutex:
            carrier.outside = False
            if self.holder is None:
                self.holder = carrier
                return
            self.ready.append(carrier)
        carrier.gate.acquire()
        if carrier is not self.root and (self.stopping or carrier.killed):
            raise Stopped


def target(name: str | None) -> int:
    """The number of the worker called ``name`` (``w0`` is 0), -1 for anything else."""
    return int(name[1:]) if name is not None and name[:1] == "w" and name[1:].isdigit() else -1
