"""Which frames are worth showing to the author of a test, and how a place in the code is written."""

from __future__ import annotations

import asyncio
import os
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import fake_server

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["coroutine_frames", "innermost_place", "is_ours", "of_the_user", "place"]

_OURS = tuple(os.path.dirname(path) + os.sep for path in (os.path.dirname(__file__), fake_server.__file__))
"""Both packages, all rooms of them."""
_BETWEEN = (*_OURS, os.path.dirname(asyncio.__file__) + os.sep, threading.__file__)
"""What stands between a test, its workers and what they call."""


def is_ours(frame: FrameType) -> bool:
    """Whether the frame runs code of this project."""
    return frame.f_code.co_filename.startswith(_OURS)


def place(frame: FrameType) -> str:
    """Where a frame is, as people read it: file, line and function."""
    code = frame.f_code
    return f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} in {code.co_name}"


def of_the_user(traceback: TracebackType | None) -> TracebackType | None:
    """``traceback`` without what stands between a test, its workers and what they call."""
    kept = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_BETWEEN):
            kept.append(traceback)
        traceback = traceback.tb_next
    shown = None
    for one in reversed(kept):
        shown = TracebackType(shown, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return shown


def coroutine_frames(coro: Any) -> Iterator[FrameType]:
    """Where a suspended coroutine is, from the outside in."""
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None:
            yield frame
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)


def innermost_place(coro: Any) -> str:
    """The innermost line of the test's own code at which a suspended coroutine waits; empty where there is none."""
    found = ""
    for frame in coroutine_frames(coro):
        if not frame.f_code.co_filename.startswith(_BETWEEN):
            found = place(frame)
    return found
