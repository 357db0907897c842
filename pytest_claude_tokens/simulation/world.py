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

from pytest_claude_tokens.simulation.carrier import Carrier, Stopped, Stuck, WouldWait, target
from pytest_claude_tokens.simulation.native import allocate_rlock
from pytest_claude_tokens.simulation.timeline import Timeline

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


class World(Timeline):
    """Everything that can run in one run of a body, and its clock."""

    def __init__(self, chooser: Chooser, workers: int, seed: int = 0) -> None:
        super().__init__(chooser)
        self.serial = next(_SERIALS)
        self._seed = seed
        self.workers = workers
        self.carriers: dict[int, Carrier] = {}
        self.all: list[Carrier] = []
        self.root = self.enlist("main", -1)
        self.root.adopt()
        self.root.inside = False
        self.carriers[self.root.ident] = self.root
        self.holder: Carrier | None = self.root
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
        for carrier in self.all:
            if carrier.target == dead and not carrier.killed:
                carrier.killed = True
                if carrier.leave is not None:
                    carrier.leave(carrier)

    def waits(self) -> list[str]:
        """Who waits for what: for the report of a deadlock."""
        return [
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
        if self.asking:
            return
        self._enter(carrier)
        try:
            if carrier is self.loop_carrier or self.stopping:
                return
            if rotate:
                self.ready.append(carrier)
            else:
                self.ready.appendleft(carrier)
                self._round += 1
            self._pass_on(carrier)
        finally:
            carrier.inside = False

    def block(self, carrier: Carrier, why: Callable[[], str] | str, timeout: float | None = None) -> bool:
        """Park the holder until :meth:`wake` or until ``timeout`` simulated seconds have passed (then ``False``).

        Raises :class:`Stuck` in the root where nobody can ever run again, and :class:`Stopped` in a thread that is
        to end.
        """
        if self.asking:
            raise WouldWait(f"a callable that stands for a store waits for {why() if callable(why) else why}")
        self._enter(carrier)
        carrier.waiting, carrier.timed_out, carrier.why = True, False, why
        if timeout is not None:
            self.set_timer(carrier, timeout)
        try:
            self._pass_on(carrier)
        finally:
            carrier.timer = 0
            carrier.waiting = False
            carrier.inside = False
        return not carrier.timed_out

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
        carrier.inside = False
        if self.stopping or carrier.killed:
            raise Stopped

    def finish(self, carrier: Carrier) -> None:
        """The thread ends: the baton goes on and does not come back."""
        carrier.inside = True
        if carrier.outside:
            with suppress(Stopped):
                self._return(carrier)
        carrier.done = True
        self.carriers.pop(carrier.ident, None)
        for joiner in carrier.joiners:
            self.wake(joiner)
        if not self.stopping:
            self._deliver(self.decide())
        elif not carrier.outside:
            self._give(self.root)

    def loop_next(self) -> Handle | None:
        """For the thread of the event loop: run threads until one of the loop's own handles is chosen.

        ``None``: nobody can ever run again.
        """
        carrier = self.loop_carrier
        assert carrier is not None
        carrier.inside = True
        if carrier.outside:
            self._return(carrier)
        self.at_loop = True
        item = self.decide()
        if item is None or isinstance(item, Carrier):
            carrier.inbox = None
            if item is None and self._is_over():
                carrier.inside = self.at_loop = False
                return None
            self._deliver(item)
            carrier.gate.acquire()
            item = carrier.inbox
        carrier.inside = self.at_loop = False
        return item  # type: ignore[no-any-return]  # what is no carrier is a handle

    def stop(self) -> list[Carrier]:
        """End every thread that is left, one by one; returns those that could not be ended."""
        with self.mutex:
            self.stopping = True
        left = []
        for carrier in self.all:
            if carrier is self.root or carrier.done:
                continue
            if carrier.outside:
                left.append(carrier)
                continue
            self._give(carrier)
            if not self.root.gate.acquire(timeout=STUBBORN):
                carrier.outside = True
                left.append(carrier)
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
        self.carriers.clear()
        self.new_network = self.on_death = None

    def rescue(self, carrier: Carrier) -> None:
        """The watchdog has seen that the holder is blocked outside our view: the others go on without it."""
        with self.mutex:
            if self.holder is not carrier or self.stopping or carrier.inside:
                return
            carrier.outside = True
            if carrier.inside:  # it has come to a switch point at this very moment
                carrier.outside = False
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

    def outsiders(self) -> list[Carrier]:
        """Those that are blocked where we do not see, and that may come back."""
        return [carrier for carrier in self.all if carrier.outside and not carrier.done and not carrier.killed]

    def _is_over(self) -> bool:
        """Whether nobody can ever run again. One of those outside may have come back since nobody was found."""
        with self.mutex:
            return not self.ready and not self.outsiders()

    def _enter(self, carrier: Carrier) -> None:
        """``carrier`` is at a switch point. The order matters: see :meth:`rescue`."""
        carrier.inside = True
        if carrier.outside:
            self._return(carrier)
        if self.stopping and carrier is not self.root:
            carrier.inside = False
            raise Stopped

    def _pass_on(self, carrier: Carrier) -> None:
        item = self.decide()
        if item is carrier:
            return
        if item is None and carrier is self.root and self._is_over():
            self.stuck = True
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
            if not carrier.outside:
                return
            if self.stopping and carrier is not self.root:
                raise Stopped
            carrier.outside = False
            if carrier.killed:
                if self.holder is None:
                    self._deliver(self.decide())
            elif self.holder is None:
                self.holder = carrier
                return
            else:
                self.ready.append(carrier)
        carrier.gate.acquire()
        if carrier is not self.root and (self.stopping or carrier.killed):
            raise Stopped
