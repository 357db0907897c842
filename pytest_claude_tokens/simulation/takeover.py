"""How the root waits for the baton, and takes it back when a signal ends the search.

The root is the main thread, in which Python runs the handlers of signals. Parked, it must not raise what they raise:
without the baton it would run beside the thread that has it. So it wakes now and then to ask whether a signal came. If
so, the schedule ends: each thread gets ``Stopped`` at its next switch point, and gives the baton back when it has
unwound. A holder that does not come to a switch point in time (it computes, or is blocked outside) loses the baton.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_claude_tokens.simulation.forked import is_forked
from pytest_claude_tokens.simulation.interrupts import INTERRUPT
from pytest_claude_tokens.simulation.native import monotonic
from pytest_claude_tokens.simulation.thread_record import Stopped

if TYPE_CHECKING:
    import threading

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord

__all__ = ["END_TIMEOUT_SECONDS", "HOLDER_SECONDS", "LEAST_SECONDS", "refuse", "wait_for_baton"]

END_TIMEOUT_SECONDS = 2.0
"""Real seconds that all threads together have to end after their world has ended; fewer after a signal."""
LEAST_SECONDS = 0.05
"""Real seconds that each of them has in any case."""
HOLDER_SECONDS = 0.5
"""Real seconds in which the holder must come to a switch point and unwind, when the root takes the baton back."""
_POLL_INTERVAL_SECONDS = 0.03


class Ended(Protocol):
    """A world whose schedule can be ended by its root."""

    root: ThreadRecord
    holder: ThreadRecord | None
    suspect: ThreadRecord | None
    mutex: threading.RLock
    stopping: bool


def refuse(world: Ended, record: ThreadRecord, *, waits: bool) -> None:
    """Called at a switch point when nothing is scheduled any more, as the world has ended or a signal came.

    A thread ends. The root may go on to clean up, for a while and as long as it need not wait (``waits``) for anybody.
    """
    if record is not world.root:
        record.inside = False
        with world.mutex:
            world.stopping = True
        raise Stopped
    if waits or INTERRUPT.is_due:
        record.inside = False
        INTERRUPT.check()


def wait_for_baton(world: Ended) -> None:
    """Park the root until it is given the baton, or has taken it back since a signal came."""
    lock = world.root.run_lock
    while not is_forked() and not lock.acquire(timeout=_POLL_INTERVAL_SECONDS):
        if INTERRUPT.error is not None:
            _take_back(world)
            return


def _take_back(world: Ended) -> None:
    with world.mutex:
        world.stopping = True  # from now on the only thread that is given the baton to go on is the root
    until = monotonic() + HOLDER_SECONDS
    while not world.root.run_lock.acquire(timeout=_POLL_INTERVAL_SECONDS):
        with world.mutex:
            if world.holder is None or (monotonic() > until and _lose(world, world.holder)):
                world.holder = world.root
                world.root.run()
                return


def _lose(world: Ended, holder: ThreadRecord) -> bool:
    """Declare ``holder`` outside, as the watchdog does; ``False`` if it is at a switch point after all."""
    if holder is world.root:  # it has been given the baton at this very moment
        return False
    world.suspect = holder
    try:
        if holder.inside:
            return False
        holder.lose()
        return True
    finally:
        world.suspect = None
