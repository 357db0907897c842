"""The scheduler: the ready queue, the timers and the clock of a world. It starts and stops no thread.

Default order is ``asyncio``'s own: first come, first served, in rounds. Timers that are due at the start of a round
join the end of the queue. Time stands still while anything can run, and jumps to the next timer when nothing can (or
when the schedule says so).
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.chooser import CLOCK
from pytest_claude_tokens.simulation.internals import callback_of, context_of, pop_timer
from pytest_claude_tokens.simulation.thread_record import ThreadRecord, ThreadState, worker_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_claude_tokens.simulation.chooser import Chooser

__all__ = ["EPOCH", "MAX_DECISIONS", "MAX_SECONDS", "Scheduler"]

EPOCH = 1767225600.0
"""The simulated time at which each run begins: 2026-01-01 in UTC, as POSIX seconds."""
MAX_SECONDS_EARLY = 60.0
"""Simulated seconds by which early timers and slow network legs may move time in one run, in total."""
MAX_DECISIONS = 100_000
"""Decisions after which a run that does not end is cut short."""
MAX_SECONDS = 86_400.0
"""Simulated seconds after which a run that does not end is cut short."""
_RESOLUTION_SECONDS = 1e-9
"""Simulated seconds by which a timer may fire before its time, as in ``asyncio``."""
_AT_LOOP, _WAITING = ThreadState.AT_LOOP, ThreadState.WAITING


class Scheduler:
    """The queue of what can run (thread records, and handles of event loops), the timers, and the clock.

    ``on_death`` is called when the schedule ends a worker, with "cancel" or "kill" and the worker's number.
    """

    def __init__(self, chooser: Chooser, on_death: Callable[[str, int], None] | None = None) -> None:
        self.chooser = chooser
        self._on_death = on_death
        self.now: float = 0.0
        self.steps: int = 0
        self.early: float = MAX_SECONDS_EARLY
        self._disturbed = 0.0
        self.slept: set[float] = set()
        """For how many seconds timers were set, for whoever draws the next schedule."""
        self.ready: deque[Any] = deque()
        self.loop_timers: list[Any] = []
        self.loop_record: ThreadRecord | None = None
        """The thread of the one event loop whose handles are in the queue, if there is such a loop."""
        self.starved: str | None = None
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
        """Deduct up to ``seconds`` from now on from what the search may still move time by; returns what was granted.

        Delays that overlap count once: together they make nobody later than the longest of them.
        """
        begins = max(self.now, self._disturbed)
        given = min(max(0.0, self.now + seconds - begins), self.early)
        self.early -= given
        self._disturbed = begins + given
        return min(seconds, self._disturbed - self.now)

    def next_timer(self, *, purge: bool = True) -> float | None:
        """When the next timer is due. ``purge``: take cancelled timers off the top of the heap.

        Timers that are due at the same time fire in heap order, which depends on when the heap was purged: only at the
        start of a round, as in ``asyncio``.
        """
        loop_timers = self.loop_timers
        if purge:
            while loop_timers and loop_timers[0].cancelled():
                pop_timer(loop_timers)
        elif loop_timers and loop_timers[0].cancelled():
            loop_timers = sorted(handle for handle in loop_timers if not handle.cancelled())
        timers = self._timers
        while timers and timers[0][2].timer != timers[0][1]:
            heapq.heappop(timers)
        if not loop_timers:
            return timers[0][0] if timers else None
        when: float = loop_timers[0].when()
        return min(when, timers[0][0]) if timers else when

    def fire(self, when: float) -> None:
        """Move the clock to ``when``, and make the timers ready that are due."""
        self.now = max(self.now, when)
        due = self.now + _RESOLUTION_SECONDS
        loop_timers = self.loop_timers
        while loop_timers and loop_timers[0].when() <= due:
            handle = pop_timer(loop_timers)
            if not handle.cancelled():
                self.ready.append(handle)
        timers = self._timers
        while timers and timers[0][0] <= due:
            _, number, record = heapq.heappop(timers)
            if record.timer == number and record.state is _WAITING:
                record.wake()  # its timer stays set, which tells the thread that it timed out
                self.ready.append(record)

    def set_timer(self, record: ThreadRecord, seconds: float) -> None:
        """Wake ``record`` after ``seconds``, unless something else wakes it before."""
        self.slept.add(seconds)
        self._timer_count += 1
        record.timer = self._timer_count
        heapq.heappush(self._timers, (self.now + max(0.0, seconds), record.timer, record))

    def wake(self, record: ThreadRecord) -> None:
        """Make a blocked record ready, unless its worker was killed."""
        if record.state is _WAITING:
            record.wake()
            record.timer = 0
            self.ready.append(record)

    # Who goes on.

    def decide(self) -> Any:
        """Take the next runnable from the ready queue: a record or a loop's handle; ``None``: nothing can run."""
        while True:
            # In the middle of a handle the loop can't run another one: only threads, the loop's own included, can.
            threads_only = self.loop_record is not None and self.loop_record.state is not _AT_LOOP
            candidates = self._threads() if threads_only else self.ready
            if not candidates:
                if not self._jump(threads_only):
                    return None
            elif threads_only or not self.chooser.deaths or not self._strike():
                item = self._next_of(candidates, threads_only)
                if item is not None:
                    return item

    def _threads(self) -> list[ThreadRecord]:
        return [item for item in self.ready if isinstance(item, ThreadRecord)]

    def _jump(self, threads_only: bool) -> bool:
        """Move time to the next timer, as nothing can run; ``False`` where there is none."""
        when = self.next_timer()
        if when is None:
            return False
        self.fire(when)
        self._check_limits()
        if not threads_only:
            self._round = len(self.ready)
        return True

    def _next_of(self, candidates: Sequence[Any], threads_only: bool) -> Any:
        """Choose and take one; ``None``: time has moved or the run was cut short, so ``candidates`` are outdated."""
        when = None
        if not threads_only and (self._timers or self.loop_timers or self._round <= 0):
            when = self._next_round()
        self._round -= 1
        self.steps += 1
        if self.steps > MAX_DECISIONS:
            self._check_limits()
            return None
        if len(candidates) == 1 and when is None:
            index = 0  # a single candidate is no decision
        else:
            timer = when is not None and when - max(self.now, self._disturbed) <= self.early
            index = self.chooser.next(candidates, timer, self.worker_of, self.now, when)
            if index == CLOCK:
                assert when is not None
                self.spend(max(0.0, when - self.now))
                self.fire(when)
                return None
        item = candidates[index]
        if self.chooser.late is not None:
            self._delay(self.chooser.seconds_late(self.steps, self.worker_of(item), self.now))
        if threads_only:
            self.ready.remove(item)
        else:
            del self.ready[index]
        return item

    def _delay(self, seconds: float) -> None:
        """Let time pass before a step: the one who takes it is slow."""
        if seconds:
            self.now += self.spend(seconds)

    def _next_round(self) -> float | None:
        """At the start of a round, fire the timers that are due. Returns when the next one is due."""
        starts = self._round <= 0
        when = self.next_timer(purge=starts) if self.loop_timers or self._timers else None
        if starts:
            if when is not None and when <= self.now + _RESOLUTION_SECONDS:
                self.fire(self.now)
                when = self.next_timer(purge=False)
            self._round = len(self.ready)
        return when

    def drain(self) -> None:
        """The body has ended: use default order from now on, and end a run that takes too long without an error."""
        self._ending = True
        self.steps = 0
        self.chooser.end()

    def worker_of(self, item: Any) -> int:
        """The number of the worker that a runnable belongs to; a negative number for none."""
        if isinstance(item, ThreadRecord):
            return item.worker
        name = context_of(item).get(WORKER)
        if name is not None:
            return worker_number(name)
        return -1 - getattr(getattr(callback_of(item), "__self__", None), "number", 0)

    def _strike(self) -> bool:
        """Cancel or kill the next worker if the schedule does so at this decision; ``False`` if not."""
        deaths = self.chooser.deaths
        if deaths[0].position > self.chooser.decision:
            return False
        deviation = deaths.pop(0)
        if self._on_death is not None and deviation.target not in self.dead:
            self._on_death(deviation.what, deviation.target)
        return True

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
