"""Selects the frames that the author of a test wants to see, and formats a place in the code."""

from __future__ import annotations

import sys
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import fake_server
from fake_server.genuine import asyncio, os, threading
from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.lines import is_users, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_claude_tokens.simulation.lines import Line
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord

__all__ = [
    "OURS",
    "coroutine_frames",
    "here_and_now",
    "innermost_place",
    "is_ours",
    "of_the_user",
    "place",
    "thread_place",
]

OURS = tuple(os.path.dirname(path) + os.sep for path in (os.path.dirname(__file__), fake_server.__file__))
"""Path prefixes of both packages."""
_BETWEEN = (*OURS, os.path.dirname(asyncio.__file__) + os.sep, threading.__file__)
"""Paths of the code that lies between a test, its workers and what they call."""
_NOT_THE_TEST = (*_BETWEEN, os.path.dirname(os.__file__) + os.sep)


def is_ours(frame: FrameType) -> bool:
    """Whether the frame runs code of this project."""
    return frame.f_code.co_filename.startswith(OURS)


def place(frame: FrameType) -> str:
    """Where a frame is, in words: file, line and function."""
    code = frame.f_code
    return f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} in {code.co_name}"


def of_the_user(traceback: TracebackType | None, *, libraries: bool = True) -> TracebackType | None:
    """``traceback`` without the frames of this project, Hypothesis, asyncio and threading: what lies between a test and
    what it calls. Without ``libraries``, only the frames of the user's own files, if there are any.
    """
    kept = []
    while traceback is not None:
        frame = traceback.tb_frame
        if not frame.f_code.co_filename.startswith(_BETWEEN) and not _is_hypothesis(frame):
            kept.append(traceback)
        traceback = traceback.tb_next
    if not libraries:
        kept = [one for one in kept if is_users(one.tb_frame.f_code.co_filename)] or kept
    shown = None
    for one in reversed(kept):
        shown = TracebackType(shown, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return shown


def _is_hypothesis(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "hypothesis"


def coroutine_frames(coro: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, from the outermost to the innermost."""
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None:
            yield frame
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)


def here_and_now(record: ThreadRecord) -> Callable[[], str]:
    """Tells, whenever it is called, who has called this, and at which line: a worker, else the thread of ``record``."""
    name = WORKER.get() or record.name
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_TEST):
        frame = frame.f_back
    return partial(_who, name, None if frame is None else (frame.f_code, frame.f_lineno))


def _who(name: str, line: Line | None) -> str:
    return name if line is None else f"{name} ({text(line)})"


def thread_place(ident: int) -> str:
    """The innermost line of the test's own code at which a thread is; ``""`` where there is none."""
    frame = sys._current_frames().get(ident)
    while frame is not None and (frame.f_code.co_filename.startswith(_NOT_THE_TEST) or is_ours(frame)):
        frame = frame.f_back
    return "" if frame is None else place(frame)


def innermost_place(coro: Any) -> str:
    """The innermost line of the test's own code at which a suspended coroutine waits; ``""`` where there is none."""
    found = ""
    for frame in coroutine_frames(coro):
        if not frame.f_code.co_filename.startswith(_BETWEEN):
            found = place(frame)
    return found
