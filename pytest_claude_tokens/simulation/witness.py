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
from pytest_claude_tokens.simulation.lock_patches import noticed
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
        self._calls: dict[int, list[dict[str, Any]]] = {}
        self._marks: Iterator[int] = itertools.count()
        self.steps_before: dict[int, int] = {}
        """For each event, how many accesses the run's watch had noted before it."""
        self.written: dict[int, dict[str, str]] = {}
        """For each look at a store, who had written it since the last one, and at which line."""
        self._steps: list[Any] = []
        self.moments: Moments = Moments(self._place)
        self.locks: HeldLocks = HeldLocks(
            now=lambda: 0.0 if self._world is None else self._world.now, steps=lambda: len(self._steps)
        )
        self.acts_before: dict[int, int] = {}
        """For each event, how many acts of workers on locks had been noted before it."""

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
        self.acts_before[event.seq] = len(self.locks.acts)
        if event.f == "store" and (written := self.locks.written(str(event.get("store")))):
            self.written[event.seq] = written
        if event.op is None or event.type == "note":
            return
        if event.type == "invoke":
            frames = _stack_of(sys._getframe())
            if not lines_of(frames) and self._world is not None:
                frames = _waiting(self._world, worker_number(event.actor))
            self._calls[event.op] = _calls(frames, self._marks)
            self.locks.sent(event.op, event.actor)
        else:
            self.locks.ended(event.op)

    def facts(self) -> dict[int, dict[str, Any]]:
        """See :class:`Lines`; ``seen``: see :meth:`HeldLocks.seen`. ``calls``: those of libraries that led to it.

        Each has the number of the ``call`` (two requests with one number were sent within one), the ``library``, and
        the line ``at`` which the user's code called it; where the library called a function of the user's, that
        function's name (``of``) and the number of its own call (``inner``).
        """
        facts = super().facts()
        for op, seen in self.locks.seen().items():
            facts.setdefault(op, {})["seen"] = {**seen, "calls": self._calls.get(op, [])}
        return facts

    def _place(self, worker: int) -> str:
        lines = () if self._world is None else _where_it_waits(self._world, worker)
        return text(lines[0]) if lines else ""

    def behind(self, event: Event) -> tuple[Line, ...]:
        """See :class:`Lines`. Where a loop took the request from a connection, the worker's code waits elsewhere."""
        assert self._world is not None
        return lines_up_from(sys._getframe()) or _where_it_waits(self._world, worker_number(event.actor))


_MARK = "__claude_tokens_call__"


def _calls(frames: list[FrameType], numbers: Iterator[int]) -> list[dict[str, Any]]:
    """The calls of libraries on a stack, whose frames come from the innermost on: see :meth:`Witness.facts`."""
    found: list[dict[str, Any]] = []
    library = inner = None
    code_under_test = itertools.takewhile(lambda frame: not is_bottom(frame.f_code.co_filename), frames)
    for by_user, group in itertools.groupby(code_under_test, lambda frame: is_users(frame.f_code.co_filename)):
        run = list(group)
        nearest, outermost = run[0], run[-1]
        if not by_user:
            library = outermost if is_library(outermost.f_code.co_filename) else None
            continue
        if library is not None:
            found.append(
                {
                    "call": _number(library, numbers),
                    "library": str(library.f_globals.get("__name__")).partition(".")[0],
                    "at": text((nearest.f_code, nearest.f_lineno or 0)),
                    "of": inner and inner.f_code.co_name,
                    "inner": inner and _number(inner, numbers),
                }
            )
        library, inner = None, outermost
    return found


def _number(frame: FrameType, numbers: Iterator[int]) -> int:
    """The number of a call, by which its frame is marked: it is the same for as long as the call lasts, no longer."""
    number: int = frame.f_locals.setdefault(_MARK, next(numbers))
    return number


class _Current:
    """The witness of the runs that are made now, if any."""

    witness: Witness | None = None


_CURRENT = _Current()


@around
def witnessed() -> Iterator[Witness]:
    """In the block, runs are watched; yields the witness."""
    _CURRENT.witness = witness = Witness()
    try:
        with noticed(witness.locks):
            yield witness
    finally:
        _CURRENT.witness = None
        witness.leave()


def attend(world: World, journal: Journal) -> None:
    """Called for each run: let the witness watch it, if there is one."""
    if _CURRENT.witness is not None:
        _CURRENT.witness.attend(world, journal)


def _where_it_waits(world: World, worker: int) -> tuple[Line, ...]:
    return lines_of(_waiting(world, worker))


def _waiting(world: World, worker: int) -> list[FrameType]:
    """The stack on which code of the user's waits for a library, else one on which it waits at all."""
    waiting: list[FrameType] = []
    for frames in _stacks(world, worker):
        lines = lines_of(frames)
        if lines and _asks_a_library(frames):
            return frames
        waiting = waiting or (frames if lines else [])
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
    for record in world.all:
        if record.worker == worker:
            yield _stack_of(sys._current_frames().get(record.ident))


_HERE = _stacks.__code__.co_filename


def _stack_of(frame: FrameType | None) -> list[FrameType]:
    """The frames of a stack, from the innermost on; but for those here, which would keep all of them, and so what
    the user has dropped, until a collection: they keep the list.
    """
    frames = []
    while frame is not None:
        if frame.f_code.co_filename != _HERE:
            frames.append(frame)
        frame = frame.f_back
    return frames
