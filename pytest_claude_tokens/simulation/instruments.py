"""Tells a watch of each access before it happens: by ``sys.monitoring``, and on Python 3.11 by ``sys.settrace``.

From Python 3.12 on, events are asked for in the code under test only, so that all other code runs at full speed; a
debugger, coverage and profilers have tool numbers of their own. On Python 3.11 a thread has one trace function. Where
it has one already, coverage's say, each event goes to that one first; it has the thread for itself again at the end.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.accesses import accesses_of
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.native import allocate_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import CodeType, FrameType

    from pytest_claude_tokens.simulation.accesses import Access
    from pytest_claude_tokens.simulation.schedule import Schedule
    from pytest_claude_tokens.simulation.tested_code import TestedCode

__all__ = ["Instruments"]

_TOOL_NAME = "claude-tokens"
_TOOLS = (4, 3, 5)
"""Tool numbers that no debugger, coverage or profiler takes by convention; the last one is an optimizer's."""
_SETTING = allocate_lock()
"""Held while a trace function is set: the interpreter refuses to set two at once, and runs audit hooks meanwhile."""
_FIRST_RUNS, _SOME_RUNS = 16, 8
_MONITORING: Any = getattr(sys, "monitoring", None)


class Instruments:
    """The instruments of one search, for the code that ``tested`` covers."""

    def __init__(self, tested: TestedCode) -> None:
        self.tested = tested
        self._known: dict[int, tuple[CodeType, Mapping[int, Access] | None]] = {}
        """For each code, by identity: the accesses in it, if it is under test."""
        self.others: dict[int, dict[str, Any]] = {}
        """The globals of modules that are not under test, by identity: of nearly all that runs. To ask a frame for its
        code raises an audit event, which takes longer than all else at a call.
        """
        self._tool: int | None = None
        self._runs = 0
        self._spins = False

    def is_tested(self, code: CodeType) -> bool:
        """Whether ``code`` is under test, as far as its file tells."""
        return self.tested.covers(code.co_filename)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In the block, threads are told of from :meth:`watching` on."""
        self._tool = _free_tool()
        if self._tool is None:
            yield
            return
        with self._monitoring(self._tool):  # pragma: no cover - from Python 3.12 on, as is what it calls
            yield

    @contextmanager
    def _monitoring(self, tool: int) -> Iterator[None]:  # pragma: no cover - from Python 3.12 on
        events = _MONITORING.events
        _MONITORING.use_tool_id(tool, _TOOL_NAME)
        try:
            _MONITORING.register_callback(self._tool, events.PY_START, self._on_start)
            _MONITORING.register_callback(self._tool, events.INSTRUCTION, self._on_instruction)
            _MONITORING.restart_events()  # an earlier search has been told of some code, and no more, thank you
            _MONITORING.set_events(self._tool, events.PY_START)
            yield
        finally:
            _MONITORING.set_events(self._tool, 0)
            for code, accesses in self._known.values():
                if accesses is not None:
                    _MONITORING.set_local_events(self._tool, code, 0)
            for event in (events.PY_START, events.INSTRUCTION):
                _MONITORING.register_callback(self._tool, event, None)
            _MONITORING.free_tool_id(self._tool)
            self._tool = None

    def wanted(self, schedule: Schedule) -> bool:
        """Whether the next run, under ``schedule``, is to be watched.

        By a trace function all code is slower: so only the first runs are, those that preempt somebody, a few of the
        others, and all where the author's code has a loop in which a thread might spin.
        """
        self._runs += 1
        return (
            self._tool is not None
            or self._spins
            or self._runs <= _FIRST_RUNS
            or not self._runs % _SOME_RUNS
            or any(deviation.what == "preempt" for deviation in schedule.deviations)
        )

    def watch_all(self) -> None:
        """From now on all runs are watched: whoever spins would go on in another order in those that are not."""
        self._spins = True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """In the block, the calling thread's accesses are told of."""
        if self._tool is not None:  # pragma: no cover - from Python 3.12 on
            yield
            return
        before: Any = sys.gettrace()
        tracer = _tracer(self, before)
        frame: FrameType | None = sys._getframe()
        while frame is not None and before is not None:  # what goes on in these is told only to a tracer of their own
            frame.f_trace = frame.f_trace or before
            frame = frame.f_back
        with _SETTING:
            sys.settrace(tracer)
        try:
            yield
        finally:
            with _SETTING:
                sys.settrace(before)

    def follow(self, frame: FrameType | None) -> Callable[[], None]:
        """From now on the calling thread is told of, in ``frame`` and all below it, too. Returns what ends that.

        It is for the thread of the body, which has others to race with only once it has started one.
        """
        if self._tool is not None:  # pragma: no cover - from Python 3.12 on
            return lambda: None
        before: Any = sys.gettrace()
        while frame is not None:
            accesses = self.accesses(frame)
            if accesses is not None:
                frame.f_trace_opcodes = True
                frame.f_trace = _in_frame(accesses, frame.f_trace)
            frame = frame.f_back
        with _SETTING:
            sys.settrace(_tracer(self, before))

        def end() -> None:
            with _SETTING:
                sys.settrace(before)

        return end

    def accesses(self, frame: FrameType) -> Mapping[int, Access] | None:
        """The accesses in the code of a frame, by offset; ``None`` for code that is not under test."""
        code = frame.f_code
        known = self._known.get(id(code))
        if known is None:
            accesses = accesses_of(code) if self.tested.covers_frame(frame) else None
            self._spins = self._spins or any(access.spins for access in (accesses or {}).values())
            known = self._known[id(code)] = (code, accesses)
        return known[1]

    # From Python 3.12 on.

    def _on_start(self, code: CodeType, offset: int) -> Any:  # pragma: no cover - from Python 3.12 on
        if self.accesses(sys._getframe(1)) is not None:
            _MONITORING.set_local_events(self._tool, code, _MONITORING.events.INSTRUCTION)
        return _MONITORING.DISABLE

    def _on_instruction(self, code: CodeType, offset: int) -> Any:  # pragma: no cover - from Python 3.12 on
        known = self._known.get(id(code))
        access = None if known is None or known[1] is None else known[1].get(offset)
        if access is None:
            return _MONITORING.DISABLE
        world = ACTIVE.world
        if world is not None and world.watch is not None:
            world.watch.arrive(access, sys._getframe(1))
        return None


def _tracer(instruments: Instruments, before: Callable[..., Any] | None) -> Callable[..., Any]:
    """A trace function for one thread, in front of the one that it had ``before``."""
    others = instruments.others

    def alone(frame: FrameType, event: str, arg: Any) -> Any:
        if id(frame.f_globals) in others:
            return None
        accesses = instruments.accesses(frame)
        if accesses is None:
            if instruments.tested.never_covers(frame.f_globals):
                others[id(frame.f_globals)] = frame.f_globals
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return _in_frame(accesses, None)

    def in_front(frame: FrameType, event: str, arg: Any) -> Any:
        assert before is not None
        with _SETTING:
            theirs = before(frame, event, arg)
            if sys.gettrace() is not in_front:  # coverage's puts itself in the first place at each call
                sys.settrace(in_front)
        accesses = instruments.accesses(frame)
        if accesses is None:
            return theirs
        frame.f_trace_opcodes = True
        return _in_frame(accesses, theirs)

    return alone if before is None else in_front


def _in_frame(accesses: Mapping[int, Access], theirs: Callable[..., Any] | None) -> Callable[..., Any]:
    """The trace function of one frame."""

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal theirs
        if event != "opcode":
            if theirs is not None:
                theirs = theirs(frame, event, arg)
            return trace
        access = accesses.get(frame.f_lasti)
        if access is not None:
            world = ACTIVE.world
            if world is not None and world.watch is not None and world.watch.arrive(access, frame):
                # The interpreter writes this dictionary back into the frame, closures' cells included: it must not
                # undo what others have done to them meanwhile.
                frame.f_locals  # noqa: B018
        return trace

    return trace


def _free_tool() -> int | None:
    if _MONITORING is None:
        return None
    return next(  # pragma: no cover - from Python 3.12 on
        (number for number in _TOOLS if _MONITORING.get_tool(number) is None), None
    )
