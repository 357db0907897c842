"""Detects that the holder of the baton is blocked outside the simulation, so that no run ever hangs.

The other threads go on without it. When none can, the run is given up after :data:`STUCK_TIMEOUT_SECONDS`, and the
stacks of the stuck threads are reported.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Self

from fake_server.genuine import threading, time
from pytest_claude_tokens.processes import procfs
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.frames import is_ours, place
from pytest_claude_tokens.simulation.interrupts import INTERRUPT, KNOCK
from pytest_claude_tokens.simulation.native import REAL_JOIN, REAL_START, monotonic, native
from pytest_claude_tokens.simulation.threads import new_thread

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["STUCK_TIMEOUT_SECONDS", "Interrupted", "Watchdog", "where"]

STUCK_TIMEOUT_SECONDS = 5.0
"""Real seconds after which a run is given up in which no thread can go on."""
_POLL_INTERVAL_SECONDS = 0.02
_SAMPLES = 3
"""Consecutive samples that must find the holder asleep at the same place before the others go on without it."""
_PLACES = 3
"""Innermost frames of a stuck thread that are reported."""


class Interrupted(KeyboardInterrupt):
    """Raised in a body that is stuck outside the simulation; asyncio re-raises it, as it is a KeyboardInterrupt."""


class Watchdog:
    """Watches the active world from a thread of its own."""

    def __init__(self) -> None:
        with native():
            self._over = threading.Event()
        self._before: Any = None
        self._thread = new_thread(self._watch, "claude-tokens-watchdog")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and KNOCK is not None:
            self._before = signal.signal(KNOCK, _raise)
        with native():
            REAL_START(self._thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        REAL_JOIN(self._thread)
        if self._before is not None and KNOCK is not None:
            signal.signal(KNOCK, self._before)

    def _watch(self) -> None:
        last: tuple[World, ThreadRecord | None, int, int] | None = None
        samples, since, used = 0, 0.0, 0.0
        while not self._over.wait(_POLL_INTERVAL_SECONDS):
            world = ACTIVE.world
            if world is None:
                last = None
                continue
            mark = (world, world.holder, world.handovers, world.steps)
            now, spent = monotonic(), _cpu_seconds(world.holder)
            if mark != last or spent != used or _wants_to_run(world.holder):
                last, samples, since, used = mark, 0, now, spent
                continue
            samples += 1
            if world.holder is not None and samples == _SAMPLES:
                world.rescue(world.holder)
                last = None
            elif now - since > STUCK_TIMEOUT_SECONDS:
                since = now
                stuck_at = [(record.name, where(record)) for record in world.outsiders()]
                alone = not world.give_up(stuck_at) and world.root.ident == threading.main_thread().ident
                if alone and self._before is not None and KNOCK is not None:
                    # The body itself is stuck, in a call that only a signal can end; the main thread handles those.
                    world.give_up_root()
                    signal.pthread_kill(world.root.ident, KNOCK)


def _wants_to_run(record: ThreadRecord | None) -> bool:
    """Whether the thread is runnable and only waits for a processor, which may take long on a busy machine."""
    if record is None or not record.native:
        return False
    try:
        return procfs.read_stat("self", record.native).state == "R"
    except OSError:  # pragma: no cover - no Linux, or the thread has just ended
        return False


def _cpu_seconds(record: ThreadRecord | None) -> float:
    """CPU seconds that the thread has used so far.

    The number does not grow while the thread waits for something outside. A thread that waits for the interpreter's
    lock wakes every few milliseconds, so there it grows.
    """
    if record is None or not record.ident:
        return 0.0
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(record.ident))
    except (AttributeError, OSError):  # pragma: no cover - not on this platform, or the thread has just ended
        frame = sys._current_frames().get(record.ident)
        return 0.0 if frame is None else float(hash((id(frame), frame.f_lasti)) % 1_000_003)


def _raise(number: int, frame: FrameType | None) -> None:
    if ACTIVE.world is not None and ACTIVE.world.stuck:  # else the body has come back meanwhile
        raise Interrupted
    INTERRUPT.knocked(frame)


def where(record: ThreadRecord) -> str:
    """Where a thread is: file, line and function of its innermost frames."""
    frame = sys._current_frames().get(record.ident)
    places: list[str] = []
    while frame is not None and len(places) < _PLACES:
        if not is_ours(frame):
            places.append(place(frame))
        frame = frame.f_back
    return " < ".join(places) or "an unknown place"
