"""Detects that the holder of the baton is blocked outside the simulation, so that no run ever hangs.

The other threads go on without it. When none can, the run is given up after :data:`STUCK_TIMEOUT_SECONDS`, sooner where
all of them compute, and the stacks of the stuck threads are reported.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Self

from fake_server.genuine import threading, time
from pytest_claude_tokens.processes import procfs
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.frames import is_ours, place
from pytest_claude_tokens.simulation.interrupts import INTERRUPT, KNOCK, is_foreign
from pytest_claude_tokens.simulation.native import REAL_JOIN, REAL_START, monotonic, native
from pytest_claude_tokens.simulation.threads import new_thread

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["COMPUTING_SECONDS", "DEBUGGER", "STUCK_TIMEOUT_SECONDS", "Interrupted", "Watchdog", "wants_to_run", "where"]

STUCK_TIMEOUT_SECONDS = 5.0
"""Real seconds after which a run is given up in which no thread can go on."""
COMPUTING_SECONDS = 3.0
"""Seconds of a processor after which a thread that came to no switch point is taken for one that is outside; the body
has twice as long, since it is ended at once.
"""
STILL_COMPUTING_SECONDS = 2.0
"""Real seconds after which a run is given up in which every thread computes on, and none has come back."""
_COMPUTING_SHARE = 0.1
"""The least share of that time, for all of them together, by which each one's processor time grows."""
_MORE_COMPUTING_SECONDS = 0.2
"""The same while another thread is outside already, with which it may share the processor."""
_POLL_INTERVAL_SECONDS = 0.02
_SAMPLES = 4
"""Samples that must find the holder asleep at the same place before the others go on without it."""
_IMPORTING = "<frozen importlib._bootstrap_external>"
"""The part of the import system that reads files. Its locks, for which a thread may wait, are in another."""
_PLACES = 3
"""Innermost frames of a stuck thread that are reported."""


class Interrupted(KeyboardInterrupt):
    """Raised in a body that is stuck outside the simulation; asyncio re-raises it, as it is a KeyboardInterrupt."""


class _Debugger:
    """Whether somebody looks at a stopped program, with ``pdb`` or with the debugger of an editor."""

    stopped = False

    @property
    def at_work(self) -> bool:
        """Whether a thread may be asleep because somebody has stopped it: then time stands still, and nobody is stuck.

        An editor's debugger (``pydevd``, which ``debugpy`` is made of) does not say when it stops a thread.
        """
        return self.stopped or "pydevd" in sys.modules


DEBUGGER = _Debugger()


class Watchdog:
    """Watches the active world from a thread of its own."""

    def __init__(self) -> None:
        with native():
            self._over = threading.Event()
        self._before: Any = None
        self._computing: World | None = None
        """The world whose root computes without end, and is to be interrupted."""
        self._thread = new_thread(self._watch, "claude-tokens-watchdog")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread() and KNOCK is not None:
            self._before = signal.signal(KNOCK, self._raise)
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
        samples, since, used, first, polled = 0, 0.0, 0.0, 0.0, 0.0
        outside: dict[ThreadRecord, float] = {}
        while not self._over.wait(_POLL_INTERVAL_SECONDS):
            late, polled = monotonic() - polled > 2 * _POLL_INTERVAL_SECONDS, monotonic()
            world = ACTIVE.world
            if world is None or DEBUGGER.at_work or _is_debugged(world.holder):
                last = None
                continue
            mark = (world, world.holder, world.handovers, world.steps)
            now, spent = monotonic(), _cpu_seconds(world.holder)
            if mark != last:
                first = spent
            if mark != last or spent != used or wants_to_run(world.holder):
                last, samples, since, used = mark, 0, now, spent
                outside = {record: _cpu_seconds(record) for record in world.outsiders()}
                if world.holder is not None and spent - first > _patience(world, world.holder):
                    self._end_computing(world, world.holder)
                    last = None
                continue
            # A run with others in between is another run, so it must not depend on how busy this machine is.
            if not late and not _waits_for_the_machine(world.holder):
                samples += 1
            if world.holder is not None and samples == _SAMPLES:
                world.rescue(world.holder)
                last = None
            elif now - since > STUCK_TIMEOUT_SECONDS or _all_compute(outside, now - since):
                since = now
                stuck_at = [(record.name, where(record)) for record in world.outsiders()]
                if not world.give_up(stuck_at):
                    # The body itself is stuck, in a call that only a signal can end; the main thread handles those.
                    self._interrupt(world)

    def _end_computing(self, world: World, holder: ThreadRecord) -> None:
        """The holder computes without end: the others go on beside it, or the body is ended, if it is that."""
        if holder is not world.root:
            world.rescue(holder)
        elif self._may_interrupt(world):
            self._computing = world
            signal.pthread_kill(holder.ident, KNOCK)

    def _interrupt(self, world: World) -> None:
        if self._may_interrupt(world):
            world.give_up_root()
            signal.pthread_kill(world.root.ident, KNOCK)

    def _may_interrupt(self, world: World) -> bool:
        return self._before is not None and KNOCK is not None and world.root.ident == threading.main_thread().ident

    def _raise(self, number: int, frame: FrameType | None) -> None:
        """The handler of :data:`KNOCK`."""
        world = ACTIVE.world
        if world is not None and self._computing is world and is_foreign(frame):  # not in our judge, say
            world.stuck_at = [(world.root.name, where(world.root))]
            world.give_up_root()
        self._computing = None
        if world is not None and world.stuck:  # else the body has come back meanwhile
            raise Interrupted
        INTERRUPT.knocked(frame)


def _is_debugged(record: ThreadRecord | None) -> bool:
    """Whether the thread sleeps in a debugger that pytest knows nothing of: ``ipdb``, ``pudb``, a ``Pdb`` of one's own.

    All of them are made of the standard library's ``bdb``, whose frames are on the stack while they wait for a command.
    A thread that runs can't be looked at so without the interpreter's lock, which a free-threaded build has not.
    """
    if record is None or "bdb" not in sys.modules or wants_to_run(record):
        return False
    frame = sys._current_frames().get(record.ident)
    while frame is not None and frame.f_globals.get("__name__") != "bdb":
        frame = frame.f_back
    return frame is not None


def _patience(world: World, holder: ThreadRecord) -> float:
    """For how long the holder may compute."""
    if holder is world.root:
        return 2 * COMPUTING_SECONDS
    return _MORE_COMPUTING_SECONDS if world.outsiders() else COMPUTING_SECONDS


def _all_compute(outside: dict[ThreadRecord, float], seconds: float) -> bool:
    """Whether each of these threads, with its processor time ``seconds`` ago, has computed ever since, for too long."""
    if not outside or seconds <= STILL_COMPUTING_SECONDS:
        return False
    share = _COMPUTING_SHARE * seconds / len(outside)
    return all(_cpu_seconds(record) - before > share for record, before in outside.items())


def wants_to_run(record: ThreadRecord | None) -> bool:
    """Whether the thread is runnable and only waits for a processor, which may take long on a busy machine."""
    return _state(record) == "R"


def _waits_for_the_machine(record: ThreadRecord | None) -> bool:
    """Whether the thread waits for a disk, or reads a module that it imports: nothing that another thread could end."""
    if record is None:
        return False
    frame = sys._current_frames().get(record.ident)
    return _state(record) == "D" or (frame is not None and frame.f_code.co_filename == _IMPORTING)


def _state(record: ThreadRecord | None) -> str:
    """The letter of ``proc(5)``; empty where it is not known."""
    if record is None or not record.native:
        return ""
    try:
        return procfs.read_stat("self", record.native).state
    except OSError:  # pragma: no cover - no Linux, or the thread has just ended
        return ""


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


def where(record: ThreadRecord) -> str:
    """Where a thread is: file, line and function of its innermost frames."""
    frame = sys._current_frames().get(record.ident)
    places: list[str] = []
    while frame is not None and len(places) < _PLACES:
        if not is_ours(frame):
            places.append(place(frame))
        frame = frame.f_back
    return " < ".join(places) or "an unknown place"
