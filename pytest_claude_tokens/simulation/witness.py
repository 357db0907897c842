"""Watches one run of a schedule that has failed, for what its story tells and no run of a search has the time to note.

The run is one more, after the failure has been reproduced: what a witness does can't change what is reported.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

from fake_server.around import around
from pytest_claude_tokens.simulation.frames import coroutine_frames
from pytest_claude_tokens.simulation.held_locks import HeldLocks
from pytest_claude_tokens.simulation.lines import (
    Line,
    Lines,
    is_bottom,
    is_library,
    is_users,
    lines_of,
    lines_up_from,
    text,
)
from pytest_claude_tokens.simulation.moments import Moments, WatchedChooser
from pytest_claude_tokens.simulation.tasks import worker_of
from pytest_claude_tokens.simulation.thread_record import worker_number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from fake_server.core.journal import Journal
    from fake_server.events import Event
    from pytest_claude_tokens.simulation.world import World

__all__ = ["Witness", "attend", "witnessed"]


class Witness(Lines):
    """The lines of the user's code behind each request of one run, and the locks that were held then."""

    def __init__(self) -> None:
        super().__init__()
        self._world: World | None = None
        self._calls: dict[int, tuple[int, str]] = {}
        self.steps_before: dict[int, int] = {}
        """For each event, how many accesses the run's watch had noted before it."""
        self.written: dict[int, dict[str, str]] = {}
        """For each look at a store, who had written it since the last one, and at which line."""
        self._steps: list[Any] = []
        self.moments: Moments = Moments(self._place)
        self.locks: HeldLocks = HeldLocks(lambda: 0.0 if self._world is None else self._world.now)

    def attend(self, world: World, journal: Journal) -> None:
        """Watch the run that is about to begin."""
        self._world = world
        self._steps = [] if world.watch is None else world.watch.steps
        world.chooser.__class__ = WatchedChooser
        WatchedChooser.moments = self.moments
        journal.observers.append(self.observe)

    def leave(self) -> None:
        """Let go of the run."""
        self._world = WatchedChooser.moments = None

    def observe(self, event: Event) -> None:
        """See :class:`Lines`."""
        super().observe(event)
        self.moments.observe(event)
        self.steps_before[event.seq] = len(self._steps)
        if event.f == "store" and (written := self.locks.written(str(event.get("store")))):
            self.written[event.seq] = written
        if event.op is None or event.type == "note":
            return
        if event.type == "invoke":
            if (call := _call(sys._getframe(), len(self._calls))) is not None:
                self._calls[event.op] = call
            self.locks.sent(event.op, event.actor)
        else:
            self.locks.ended(event.op)

    def facts(self) -> dict[int, dict[str, Any]]:
        """See :class:`Lines`; ``seen``: see :meth:`HeldLocks.seen`. ``call``: the number of the user's call.

        Two requests with one number were sent within one call of ``library``, without any code of the user's between.
        """
        facts = super().facts()
        for op, seen in self.locks.seen().items():
            number, library = self._calls.get(op, (None, None))
            facts.setdefault(op, {})["seen"] = {**seen, "call": number, "library": library}
        return facts

    def _place(self, worker: int) -> str:
        lines = () if self._world is None else _where_it_waits(self._world, worker)
        return text(lines[0]) if lines else ""

    def behind(self, event: Event) -> tuple[Line, ...]:
        """See :class:`Lines`. Where a loop took the request from a connection, the worker's code waits elsewhere."""
        assert self._world is not None
        return lines_up_from(sys._getframe()) or _where_it_waits(self._world, worker_number(event.actor))


_MARK = "__claude_tokens_call__"


def _call(frame: FrameType | None, number: int) -> tuple[int, str] | None:
    """The number of the call, by a line of the user's, within which a library sends a request, and the library's name.

    The library's outermost frame is marked: it is the same for as long as that call lasts, and no longer.
    """
    outermost: FrameType | None = None
    while frame is not None and not is_users(frame.f_code.co_filename) and not is_bottom(frame.f_code.co_filename):
        outermost, frame = frame, frame.f_back
    by_user = frame is not None and is_users(frame.f_code.co_filename)
    if not by_user or outermost is None or not is_library(outermost.f_code.co_filename):
        return None
    found: int = outermost.f_locals.setdefault(_MARK, number)
    return found, str(outermost.f_globals.get("__name__")).partition(".")[0]


class _Current:
    """The witness of the runs that are made now, if any."""

    witness: Witness | None = None


_CURRENT = _Current()


@around
def witnessed() -> Iterator[Witness]:
    """In the block, runs are watched; yields the witness."""
    _CURRENT.witness = witness = Witness()
    try:
        with witness.locks.watched():
            yield witness
    finally:
        _CURRENT.witness = None
        witness.leave()


def attend(world: World, journal: Journal) -> None:
    """Called for each run: let the witness watch it, if there is one."""
    if _CURRENT.witness is not None:
        _CURRENT.witness.attend(world, journal)


def _where_it_waits(world: World, worker: int) -> tuple[Line, ...]:
    """The user's lines at which a worker waits for a library, else those at which it waits at all."""
    waiting: tuple[Line, ...] = ()
    for frames in _stacks(world, worker):
        lines = lines_of(frames)
        if lines and _asks_a_library(frames):
            return lines
        waiting = waiting or lines
    return waiting


def _asks_a_library(frames: list[FrameType]) -> bool:
    """Whether the innermost line of the user's has called a library, which waits."""
    files = [frame.f_code.co_filename for frame in frames]
    return any(map(is_library, itertools.takewhile(lambda file: not is_users(file), files)))


def _stacks(world: World, worker: int) -> Iterator[list[FrameType]]:
    """The frames of each task and thread of a worker, from the innermost on."""
    if worker < 0:
        return
    for loop in world.loops:
        for task in getattr(loop, "left", list)():
            if worker_of(task) == worker:
                yield [*coroutine_frames(task.get_coro())][::-1]
    current = sys._current_frames()
    for record in world.all:
        if record.worker == worker:
            frames, frame = [], current.get(record.ident)
            while frame is not None:
                frames.append(frame)
                frame = frame.f_back
            yield frames
