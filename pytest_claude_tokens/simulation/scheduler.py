"""Who goes on, and what time it is: the half of a world that knows of no threads.

In default order this is ``asyncio``'s own: first come, first served, in rounds. At the start of a round timers that
are due queue up at its end; time stands still while somebody can run, and jumps to the next timer when nobody can (or
when the schedule says so).
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.schedule import CLOCK
from pytest_claude_tokens.simulation.thread_record import ThreadRecord, target

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_claude_tokens.simulation.schedule import Chooser

__all__ = ["EPOCH", "MAX_DECISIONS", "MAX_SECONDS", "Scheduler"]

EPOCH = 1767225600.0
"""The simulated time at which each run begins: 2026-01-01 in UTC, as POSIX seconds."""
EARLY = 60.0
"""Seconds by which early timers and slow legs may move time in one run, together."""
MAX_DECISIONS = 100_000
MAX_SECONDS = 86_400.0
_RESOLUTION = 1e-9
"""Seconds by which a timer may fire before its time, as in ``asyncio``."""


class Scheduler:
    """The queue of those that can run (records, and handles of event loops), the timers, and the clock."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.now = 0.0
        self.steps = 0
        self.early = EARLY
        self.ready: deque[Any] = deque()
        self.loop_timers: list[Any] = []
        self.loop_record: ThreadRecord | None = None
        self.at_loop = False
        """Whether the loop's thread waits for its next handle; else it is in the middle of one, or blocked there."""
        self.starved: str | None = None
        self.on_death: Callable[[str, int], None] | None = None
        self.dead: set[int] = set()
        self._round = 0
        self._ending = False
        self._timers: list[tuple[float, int, ThreadRecord]] = []
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

    def next_timer(self, *, purge: bool = True) -> float | None:
        """When the next timer is due. ``purge``: take those that were cancelled off the top of the heap.

        Where timers are due at the same time their order is that of the heap, and so depends on when that is done:
        at the start of a round, as in ``asyncio``.
        """
        loop_timers = self.loop_timers
        if purge:
            while loop_timers and loop_timers[0]._cancelled:
                heapq.heappop(loop_timers)._scheduled = False
        elif loop_timers and loop_timers[0]._cancelled:
            loop_timers = sorted(handle for handle in loop_timers if not handle._cancelled)
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
        due = self.now + _RESOLUTION
        loop_timers = self.loop_timers
        while loop_timers and loop_timers[0]._when <= due:
            handle = heapq.heappop(loop_timers)
            handle._scheduled = False
            if not handle._cancelled:
                self.ready.append(handle)
        timers = self._timers
        while timers and timers[0][0] <= due:
            _, number, record = heapq.heappop(timers)
            if record.timer == number:
                record.timed_out = True
                self.wake(record)

    def set_timer(self, record: ThreadRecord, seconds: float) -> None:
        """Wake ``record`` after ``seconds``, unless something else does before."""
        self._timer_count += 1
        record.timer = self._timer_count
        heapq.heappush(self._timers, (self.now + max(0.0, seconds), record.timer, record))

    def wake(self, record: ThreadRecord) -> None:
        """Make a blocked record ready, if it has not died."""
        if record.waiting and not record.killed:
            record.waiting = False
            record.timer = 0
            self.ready.append(record)

    # Who goes on.

    def decide(self) -> Any:
        """Take the next runnable from the ready queue: a record or a loop's handle; ``None``: nobody can run."""
        ready, chooser = self.ready, self.chooser
        while True:
            if self.loop_record is not None and not self.at_loop:
                return self._decide_without_loop()
            if not ready:
                when = self.next_timer()
                if when is None:
                    return None
                self.fire(when)
                self._check_limits()
                self._round = len(ready)
                continue
            if chooser.deaths and chooser.deaths[0].position <= chooser.decision:
                self._strike()
                continue
            new_round = self._round <= 0
            when = self.next_timer(purge=new_round) if self.loop_timers or self._timers else None
            if new_round:
                if when is not None and when <= self.now + _RESOLUTION:
                    self.fire(self.now)
                    when = self.next_timer(purge=False)
                self._round = len(ready)
            self._round -= 1
            self.steps += 1
            if self.steps > MAX_DECISIONS:
                self._check_limits()
                continue
            if len(ready) == 1 and when is None:
                return ready.popleft()
            if chooser.decision < chooser.default_until:
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
        """In the middle of a handle the loop can't run another one: threads only, its own one too."""
        chooser = self.chooser
        while True:
            records = [item for item in self.ready if isinstance(item, ThreadRecord)]
            if not records:
                when = self.next_timer()
                if when is None:
                    return None
                self.fire(when)
                self._check_limits()
                continue
            self._round -= 1
            self.steps += 1
            if self.steps > MAX_DECISIONS:
                self._check_limits()
                continue
            index = 0
            if len(records) > 1:
                if chooser.decision >= chooser.default_until:
                    index = chooser.choose([item.target for item in records], timer=False)
                chooser.decision += 1
            self.ready.remove(records[index])
            return records[index]

    def settle(self) -> None:
        """The body is over: from now on default order, and what takes too long is only cut short."""
        self._ending = True
        self.steps = 0
        self.chooser.end()

    def target_of(self, item: Any) -> int:
        """Which worker a runnable belongs to; a negative number for none: the task's own where it is one."""
        if isinstance(item, ThreadRecord):
            return item.target
        name = item._context.get(WORKER)
        if name is not None:
            return target(name)
        return -1 - getattr(getattr(item._callback, "__self__", None), "number", 0)

    def _strike(self) -> None:
        deviation = self.chooser.deaths.pop(0)
        if self.on_death is not None and deviation.target not in self.dead:
            self.on_death(deviation.what, deviation.target)

    def _check_limits(self) -> None:
        if self.steps > MAX_DECISIONS:
            why = f"no end after {MAX_DECISIONS:,} decisions"
        elif self.now > MAX_SECONDS and not self._ending:
            why = f"no end after {MAX_SECONDS:,.0f} s"
        else:
            return
        if not self._ending:
            self.starved = why
        self.ready.clear()
        self._timers.clear()
        self.loop_timers.clear()
