"""The scheduler: the ready queue, the timers and the clock of a world. It starts and stops no thread.

Default order is ``asyncio``'s own: first come, first served, in rounds. Timers that are due at the start of a round
join the end of the queue. Time stands still while anything can run, and jumps to the next timer when nothing can (or
when the schedule says so).

Whoever waits by looking again and again (``sleep(0)``, a lock that is tried, a queue that is empty, a clock) can always
run. So after many decisions without any *progress* time moves at each decision, as it does in reality, and all that
can run takes turns, whatever the schedule says. Progress is a request that begins or ends, a job, thread or task that
does, and whatever wakes somebody.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.chooser import CLOCK
from pytest_claude_tokens.simulation.internals import callback_of, context_of, is_cancelled, pop_timer
from pytest_claude_tokens.simulation.patience import Patience
from pytest_claude_tokens.simulation.thread_record import ThreadRecord, ThreadState, worker_number
from pytest_claude_tokens.simulation.timeouts import LONGEST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_claude_tokens.simulation.chooser import Chooser
    from pytest_claude_tokens.simulation.schedule import Delay, DelayWhy

__all__ = ["EPOCH", "MAX_DECISIONS", "MAX_SECONDS", "SLOW_SECONDS", "Scheduler"]

EPOCH = 1767225600.0
"""The simulated time at which each run begins: 2026-01-01 in UTC, as POSIX seconds."""
SLOW_SECONDS = 60.0
"""Simulated seconds by which a search may hold up workers and replies in one run, together, by default."""
MAX_DECISIONS = 100_000
"""Decisions without progress after which a run that does not end is cut short, and half of those after which it is in
any case.
"""
PATIENCE = 400
"""Decisions without progress after which time passes at each further one."""
_FIRST_LOOK_SECONDS, _LOOK_SECONDS, _LAST_LOOK_SECONDS = 1e-4, 0.01, 0.05
"""Simulated seconds that such a decision takes, the last where nothing has happened for long. A busy machine may add
as much to any sleep, so that a lease which is renewed in time is not lost by it."""
_SUSPENDED_DECISIONS = 12_000
"""Such decisions for which a worker stays suspended while others sleep between two looks: some minutes."""
_FREE_LOOKS = 10
"""Decisions that take no time all the same after each sleep, beside two of each that can run."""
_SPIN_SHARE = 0.05
_LONG_SECONDS = 10.0
"""Simulated seconds without progress after which looks take longer."""
MAX_SECONDS = 86_400.0
"""Simulated seconds after which a run that does not end is cut short, not counting those by which it was held up."""
_SHARE_OF_PATIENCE = 0.99
"""The share of a client's time-out that one delay may take: there may be further ones on the way."""
_LEAST_PATIENCE_SECONDS = 1e-3
"""Simulated seconds before a client would give up, in which nothing is delayed any more."""
_SHORT_OF_SECONDS = 0.001
"""Simulated seconds by which a run is held up less than it may be: a lease of just that length is to survive it."""
_RESOLUTION_SECONDS = 1e-9
"""Simulated seconds by which a timer may fire before its time, as in ``asyncio``."""
_AT_LOOP, _WAITING = ThreadState.AT_LOOP, ThreadState.WAITING


class Scheduler:
    """The queue of what can run (thread records, and handles of event loops), the timers, and the clock.

    ``on_death`` is called when the schedule ends a worker, with "cancel" or "kill" and the worker's number. ``slow``:
    by how many seconds the schedule may hold up workers and replies, together.
    """

    def __init__(
        self, chooser: Chooser, on_death: Callable[[str, int], None] | None = None, *, slow: float = SLOW_SECONDS
    ) -> None:
        self.chooser = chooser
        self._on_death = on_death
        self.last_resort: Callable[[], bool] | None = None
        """Called when nothing can run and no timer is left; returns whether something can run now."""
        self.now: float = 0.0
        self.steps: int = 0
        self.patience: Patience = Patience()
        self.early: float = max(0.0, slow - _SHORT_OF_SECONDS)
        self._slow = slow
        self._disturbed = 0.0
        self.held: list[Delay] = []
        """Who was held up, and for how long."""
        self.slept: set[float] = set()
        """For how many seconds timers were set, for whoever draws the next schedule."""
        self.ready: deque[Any] = deque()
        self.loop_timers: list[Any] = []
        self.heaps: list[list[Any]] = [self.loop_timers]
        """The timers of all event loops."""
        self.loop_record: ThreadRecord | None = None
        """The thread of the one event loop whose handles are in the queue, if there is such a loop."""
        self.starved: str | None = None
        self.dead: set[int] = set()
        self._patience = PATIENCE
        """The number of the decision up to which time stands still."""
        self._limit = MAX_DECISIONS
        """That up to which the run may go on. Both move on with each progress."""
        self._progress_at = 0.0
        """When there was progress last."""
        self._stands_at, self._stood = 0.0, 0
        """At what time decisions without progress were made last, and how many."""
        self.happened: int = 0
        """How often there was progress."""
        self._round = 0
        self._ending = False
        self._timers: list[tuple[float, int, ThreadRecord]] = []
        self._timer_count = 0

    # Time.

    def wall(self) -> float:
        """The simulated POSIX time."""
        return EPOCH + self.now

    def spend(self, seconds: float, why: DelayWhy, *workers: int) -> float:
        """Deduct up to ``seconds`` from now on from what the search may still move time by; returns what was granted.

        Delays that overlap count once: together they make nobody later than the longest of them. ``why`` and
        ``workers``: what holds up whom. No client loses its patience.
        """
        suspended = workers if why == "slow" else ()
        left = self.patience.limit(self.now, self._can_run, suspended) - self.now
        seconds = min(seconds, _SHARE_OF_PATIENCE * left if left > _LEAST_PATIENCE_SECONDS else 0.0)
        begins = max(self.now, self._disturbed)
        given = min(max(0.0, self.now + seconds - begins), self.early)
        self.early -= given
        self._disturbed = begins + given
        granted = min(seconds, self._disturbed - self.now)
        self.held += [(worker, why, granted) for worker in workers]
        if suspended:
            self.patience.suspend(suspended, granted)
            self.sort_timers()
        return granted

    def sort_timers(self) -> None:
        """Some of the event loops' were postponed."""
        for timers in self.heaps:
            heapq.heapify(timers)

    def next_timer(self, *, purge: bool = True) -> float | None:
        """When the next timer is due. ``purge``: take cancelled timers off the top of the heap.

        Timers that are due at the same time fire in heap order, which depends on when the heap was purged: only at the
        start of a round, as in ``asyncio``.
        """
        loop_timers = self.loop_timers
        if purge:
            while loop_timers and is_cancelled(loop_timers[0]):
                pop_timer(loop_timers)
        elif loop_timers and is_cancelled(loop_timers[0]):
            loop_timers = sorted(handle for handle in loop_timers if not is_cancelled(handle))
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
            if not is_cancelled(handle) and not self.patience.puts_off(handle, loop_timers):
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
        if self.steps > self._patience:
            seconds = max(seconds, self.patience.capped(self.now, self.look_seconds))
        heapq.heappush(self._timers, (self.now + max(0.0, min(LONGEST_SECONDS, seconds)), record.timer, record))

    def wake(self, record: ThreadRecord) -> None:
        """Make a blocked record ready, unless its worker was killed."""
        if record.state is _WAITING:
            record.wake()
            record.timer = 0
            self.ready.append(record)
            self.progress()

    # Who waits in vain.

    def progress(self) -> None:
        """Something has happened that somebody may have waited for."""
        self._limit = min(self.steps + MAX_DECISIONS, 2 * MAX_DECISIONS)
        self._patience = min(self.steps + PATIENCE, self._limit)
        self._progress_at = self.now
        self.patience.barred = 0
        self.chooser.note_progress(self.now)
        self.happened += 1

    @property
    def is_idle(self) -> bool:
        """Whether nothing has happened for long, although something can run."""
        return self.steps > self._patience

    @property
    def look_seconds(self) -> float:
        """How long a look takes by which nothing happens, and a sleep at least between two of them."""
        idle = self.now - self._progress_at
        if idle < _LOOK_SECONDS:
            return max(_FIRST_LOOK_SECONDS, idle)
        return min(_LAST_LOOK_SECONDS, _LOOK_SECONDS * max(1.0, idle / _LONG_SECONDS))

    def overlooked(self) -> float:
        """As :attr:`look_seconds`, before so much time passes; 0 if a client would give up by it."""
        seconds, suspended = self.look_seconds, self.chooser.suspended()
        self.spend(seconds, "slow", *suspended)
        return 0.0 if self.patience.bars(self.now, seconds + _LEAST_PATIENCE_SECONDS, suspended) else seconds

    @property
    def spin_seconds(self) -> float:
        """How long the rounds of one who spins in vain take together, from one time at which it is looked after to the
        next: short beside the time for which nothing has happened, so that it is hardly late when something does.
        """
        return max(self.look_seconds, _SPIN_SHARE * (self.now - self._progress_at))

    def _be_impatient(self) -> bool:
        """Let time pass; ``False`` if a timer was due or the run was cut short, so that others can run now."""
        if self.steps > self._limit:
            self._check_limits()
            return False
        if self.now != self._stands_at:  # it moves by itself
            self._stands_at, self._stood = self.now, 0
        self._stood += 1
        if self._stood <= 2 * len(self.ready) + _FREE_LOOKS:
            return True
        until = self.now + self.overlooked()
        when = self.next_timer()
        if when is None or when > until:
            self.now = self._stands_at = until
            return True
        self.fire(when)
        return False

    # Who goes on.

    def decide(self) -> Any:
        """Take the next runnable from the ready queue: a record or a loop's handle; ``None``: nothing can run.

        In one function, for speed: it is called for each step of each task and thread of each run.
        """
        ready, chooser, loop = self.ready, self.chooser, self.loop_record
        # In the middle of a handle the loop can't run another one: only threads, the loop's own included, can.
        threads_only = loop is not None and loop.state is not _AT_LOOP
        while True:
            candidates = self._threads() if threads_only else ready
            if not candidates:
                if self._jump(threads_only):
                    continue
                return None
            when = None
            if not threads_only:
                if chooser.deaths and self._end_worker():
                    continue
                if self._timers or self.loop_timers:
                    when = self._next_round()
                elif self._round <= 0:
                    self._round = len(ready)
            self._round -= 1
            self.steps += 1
            if self.steps > self._patience and not self._be_impatient():
                continue
            index = 0
            if when is not None or len(candidates) > 1:  # a single candidate is no decision
                # Whoever waits in vain must not be preferred for ever.
                if chooser.decision < chooser.default_until or (
                    self.steps > self._patience and not self._stay_suspended()
                ):
                    chooser.decision += 1
                else:
                    timer = when is not None and self._may_fire(when, candidates)
                    index = chooser.next(candidates, timer, self.worker_of, self.now, when)
            else:  # which counts while a death is still to come: a worker can end while it runs alone
                chooser.decision += bool(chooser.deaths)
            if index == CLOCK:
                assert when is not None
                self.spend(max(0.0, when - self.now), "slow", *self._workers_of(candidates))
                self.fire(when)
            else:
                item = candidates[index]
                self.now += 0.0 if chooser.late is None else self._lateness(item)
                del ready[ready.index(item) if threads_only else index]
                return item

    def _stay_suspended(self) -> bool:
        """Whether a worker stays suspended although nothing has happened for long: others sleep between two looks."""
        vain = self._stood > 2 * len(self.ready) + _FREE_LOOKS or self.steps > self._patience + _SUSPENDED_DECISIONS
        return not vain and self.early > self.look_seconds and bool(self.chooser.suspended())

    def _threads(self) -> list[ThreadRecord]:
        # A copy, as a thread that is outside may add a handle at any time.
        return [item for item in tuple(self.ready) if isinstance(item, ThreadRecord)]

    def _jump(self, threads_only: bool) -> bool:
        """Move time to the next timer, as nothing can run; ``False`` where there is none."""
        when = self.next_timer()
        if when is None:
            return self.last_resort is not None and self.last_resort()
        self.fire(when)
        self._check_limits()
        if not threads_only:
            self._round = len(self.ready)
        return True

    def _may_fire(self, when: float, candidates: Iterable[Any]) -> bool:
        """Whether a timer may fire although something could run: there is time left, and no client gives up by it.

        Those that could run are suspended meanwhile, and so are their clients.
        """
        if when - max(self.now, self._disturbed) > self.early:
            return False
        until = self.now + (when - self.now) / _SHARE_OF_PATIENCE + _LEAST_PATIENCE_SECONDS
        limit = self.patience.limit
        return until < limit(self.now, self._can_run) or (
            until < limit(self.now, self._can_run, self._workers_of(candidates))
        )

    def _workers_of(self, items: Iterable[Any]) -> list[int]:
        return sorted({max(-1, self.worker_of(item)) for item in items})

    def _can_run(self, worker: int) -> bool:
        """Whether something of this worker's is in the queue; of a negative number: something of no worker's."""
        return any(max(-1, self.worker_of(item)) == worker for item in tuple(self.ready))

    def _lateness(self, item: Any) -> float:
        """The seconds that pass before a step, as the one who takes it is slow."""
        worker = self.worker_of(item)
        seconds = self.chooser.seconds_late(self.steps, worker, self.now)
        return self.spend(seconds, "slow", max(-1, worker)) if seconds else 0.0

    def _next_round(self) -> float | None:
        """When the next timer is due. At the start of a round, those that are due by then are fired first."""
        starts = self._round <= 0
        when = self.next_timer(purge=starts)
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
        self.progress()
        self.chooser.end()

    def worker_of(self, item: Any) -> int:
        """The number of the worker that a runnable belongs to; a negative number for none."""
        if isinstance(item, ThreadRecord):
            return item.worker
        name = context_of(item).get(WORKER)
        if name is not None:
            return worker_number(name)
        return -1 - getattr(getattr(callback_of(item), "__self__", None), "number", 0)

    def _end_worker(self) -> bool:
        """Cancel or kill the next worker if the schedule does so at this decision; ``False`` if not."""
        deaths = self.chooser.deaths
        if deaths[0].position > self.chooser.decision:
            return False
        deviation = deaths.pop(0)
        if self._on_death is not None and deviation.target not in self.dead:
            self._on_death(deviation.what, deviation.target)
        return True

    def _check_limits(self) -> None:
        if self.steps > self._limit:
            in_all = self.steps > 2 * MAX_DECISIONS
            why = f"no end after {MAX_DECISIONS * (1 + in_all):,} decisions{'' if in_all else ' without progress'}"
        elif self.now > MAX_SECONDS + self._slow - self.early and not self._ending:
            why = f"no end after {MAX_SECONDS:,.0f} s"
        else:
            return
        if not self._ending:
            self.starved = why
        self.ready.clear()
        self._timers.clear()
        self.loop_timers.clear()
