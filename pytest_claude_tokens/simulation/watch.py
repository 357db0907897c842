"""What the threads of one run access, in order, and where they lose their turn for it.

A thread comes by here before each access of the code under test. If the schedule says so, it is preempted: it goes to
the end of the queue, as if the interpreter had switched. Whoever runs in a circle is preempted, too, after a number of
rounds, or nobody else would ever run.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.accesses import LOOP
from pytest_claude_tokens.simulation.naming import Names

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from pytest_claude_tokens.simulation.accesses import Access
    from pytest_claude_tokens.simulation.naming import Touched
    from pytest_claude_tokens.simulation.schedule import Schedule
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["Step", "Watch"]

_MOST_TIMES = 64
"""How often the accesses of one worker at one place are recorded in one run."""
_FREE_ROUNDS, _FREE_ROUNDS_THAT_DO = 100, 1_000
"""Rounds in a circle without progress in which a thread keeps its turn; the second where a round changes something."""
_ROUNDS_THAT_DO, _IDLE_ROUNDS_THAT_DO = 100, 10
"""From then on, rounds of the second kind from one turn to the next; the second where nothing has happened for long, so
that the thread sees minutes pass before it has gone round that often in which it can't be told from one who computes.
"""
_MOST_ROUNDS_THAT_DO = 60_000
"""From then on a thread keeps its turn: it computes, and after seconds the watchdog has the others go on without it."""


_LOCKED = ("importlib._bootstrap", "_frozen_importlib", "logging", "functools")
_CACHED_UNDER_LOCK = sys.version_info < (3, 12)


@dataclass(frozen=True, slots=True)
class Step:
    """One access of a run, or, without ``touched``, the moment at which a thread lost its turn before one.

    ``thread``: the number of the thread; ``times``: how often its worker had been there before. ``locks``: those that
    the thread holds. ``decision``: the number of the next decision. ``others``: whether anybody else could run;
    ``sleepers``: if nobody, whether anybody sleeps.
    """

    thread: int
    worker: int
    access: Access
    times: int
    touched: tuple[Touched, ...]
    locks: frozenset[int]
    decision: int
    others: bool
    sleepers: bool = False


@dataclass(slots=True)
class _Rounds:
    """How often a thread has gone round since there was progress, and what its names meant then. ``does``: it has
    written something since the last round, or called what nobody can look into. ``inside``: it has come by in another
    frame than that of the loop, ``frame`` by its identity: what the loop calls is the author's own code.
    ``steps``: how many decisions had been made.
    """

    happened: int = -1
    count: int = 0
    values: tuple[int, ...] = ()
    does: bool = False
    inside: bool = False
    frame: int = 0
    steps: int = -1


@dataclass(slots=True)
class Watch:
    """The accesses of one run under ``schedule``. ``is_tested``: whether code is under test;
    ``is_serving``: whether the calling thread is in the service, which others would have to wait for. ``on_spinning``:
    called where a loop has gone round so often that this watch may interrupt it: the run would be another one without.
    """

    world: World
    schedule: Schedule
    is_tested: Callable[[CodeType], bool]
    is_serving: Callable[[], bool] = lambda: False
    on_spinning: Callable[[], None] = lambda: None
    steps: list[Step] = field(default_factory=list)
    _times: dict[tuple[int, str], int] = field(default_factory=dict)
    _due: dict[tuple[int, str], dict[int, int]] = field(default_factory=dict)
    _rounds: dict[int, _Rounds] = field(default_factory=dict)
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        self.names = Names(self.is_tested)
        for deviation in self.schedule.deviations:
            if deviation.what == "preempt":
                due = self._due.setdefault((deviation.target, deviation.place), {})
                due[deviation.position] = deviation.length

    def arrive(self, access: Access, frame: FrameType) -> bool:
        """A thread is about to make an access in ``frame``. Returns whether it was preempted."""
        world = self.world
        record = world.records.get(get_ident())
        if record is None or record.inside or world.holder is not record or world.asking:
            return False
        if record is world.root and world.is_alone:
            return False
        if access.kind == LOOP:
            return self._go_round(record, access, frame)
        worker = record.worker
        where = (worker, access.place)
        times = self._times.get(where, 0)
        self._times[where] = times + 1
        due = self._due.get(where)
        preempted = due is not None and times in due and self._may_switch(frame)
        if due is not None and preempted:
            self._note(record, access, times, ())
            if due[times] > 1:
                world.chooser.hold(worker, due[times])
            world.pause(record, rotate=True)
        rounds = self._rounds.get(record.index)
        if rounds is not None and rounds.frame != id(frame):
            rounds.inside = True
        if times < _MOST_TIMES or rounds is not None:
            self.names.opaque = False
            touched = self.names.touched(access, frame)
            if touched and times < _MOST_TIMES:
                self._note(record, access, times, touched)
            if rounds is not None and (self.names.opaque or any(one[3] for one in touched)):
                rounds.does = True
        return preempted

    def _note(self, record: ThreadRecord, access: Access, times: int, touched: tuple[Touched, ...]) -> None:
        world = self.world
        others = bool(world.ready)
        self.steps.append(
            Step(
                record.index,
                record.worker,
                access,
                times,
                touched,
                record.locks,
                world.chooser.decision,
                others,
                not others and world.next_timer(purge=False) is not None,
            )
        )

    def _go_round(self, record: ThreadRecord, access: Access, frame: FrameType) -> bool:
        """The thread is at the end of a round of a ``while``.

        One that calls what is not the author's own may compute, however little of it is to be seen: the processor's
        own clock, a hash, a pipe. How many rounds it takes may differ from run to run, so it keeps its turn.
        """
        rounds = self._rounds.setdefault(record.index, _Rounds(steps=self.world.steps))
        inside, rounds.inside, rounds.frame = rounds.inside, False, id(frame)
        if access.calls and not inside:
            return False
        if rounds.steps != self.world.steps:  # it has come to a switch point: others can go on as it is
            rounds.steps = self.world.steps
            return False
        if rounds.happened != self.world.happened:
            rounds.happened, rounds.count = self.world.happened, 0
        rounds.count += 1
        if rounds.count < _FREE_ROUNDS:
            return False
        self.on_spinning()
        values = tuple(map(id, frame.f_locals.values()))
        does, rounds.values, rounds.does = rounds.does or values != rounds.values, values, False
        if does and not _FREE_ROUNDS_THAT_DO <= rounds.count <= _MOST_ROUNDS_THAT_DO:
            return False
        if does and rounds.count % (_IDLE_ROUNDS_THAT_DO if self.world.is_idle else _ROUNDS_THAT_DO):
            return False
        if not self._may_switch(frame):
            return False
        if self.world.is_idle and not does:  # it goes on as it is until somebody else does something
            self.world.sleep(record, self.world.spin_seconds)
        else:
            self.world.pause(record, rotate=True)
        rounds.steps = self.world.steps
        return True

    def _may_switch(self, frame: FrameType) -> bool:
        """Whether others could go on meanwhile: not while this thread has a lock that nobody can see.

        The service has one, and so has the standard library where it imports, logs, or (before Python 3.12) computes a
        cached property.
        """
        if self.is_serving():
            return False
        below: FrameType | None = frame
        while below is not None:
            name = below.f_globals.get("__name__")
            if name in _LOCKED and (name != "functools" or _CACHED_UNDER_LOCK):
                return False
            below = below.f_back
        return True

    def take_apart(self) -> None:
        """Let go of what the run has touched."""
        self.names = Names(self.is_tested)
        self._rounds.clear()
