"""Which lines of the user's code have led to a request, whatever library sent it.

The user's are the files outside of the standard library, of installed packages and of this project. A line is kept as
its code object and number, which costs little, and put into words only when a failure is told.
"""

from __future__ import annotations

import sys
import sysconfig
from functools import lru_cache
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import fake_server
from fake_server.genuine import asyncio, os
from fake_server.secrecy import redact
from pytest_claude_tokens.simulation.internals import CONDITION_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fake_server.events import Event

__all__ = [
    "Line",
    "Lines",
    "is_bottom",
    "is_installed",
    "is_library",
    "is_standard",
    "is_users",
    "lines_of",
    "lines_up_from",
    "takes_what_is_there",
    "text",
    "users_line",
]

Line = tuple[CodeType, int]
"""A line of code: the code object that it is in, and its number."""

_KEPT = 4
"""Lines that are kept of a stack: the one that sent the request, and its nearest callers."""
_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_BOTTOM = (os.path.join(_PACKAGE, "runs", ""), asyncio.events.__file__)
"""Below these on a stack is whoever runs the code under test: what started the search, or an event loop."""
_OURS = (os.path.join(_PACKAGE, ""), os.path.join(os.path.dirname(fake_server.__file__), ""))
_STANDARD = tuple(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib"))
_INSTALLED = ("site-packages", "dist-packages")


@lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """Whether that source file is the user's: a test, or the project under test."""
    return not (file.startswith(("<", *_OURS, *_STANDARD)) or is_installed(file))


@lru_cache(maxsize=4096)
def is_library(file: str) -> bool:
    """Whether that source file belongs to an installed package, such as a client of HTTP."""
    return is_installed(file) and not file.startswith(_OURS)


@lru_cache(maxsize=4096)
def is_installed(file: str) -> bool:
    """Whether that source file lies where packages are installed."""
    return not set(_INSTALLED).isdisjoint(file.replace("\\", "/").split("/"))


@lru_cache(maxsize=4096)
def is_standard(file: str) -> bool:
    """Whether that source file belongs to the standard library or to this project."""
    return file.startswith(_OURS) or (file.startswith(("<", *_STANDARD)) and not is_installed(file))


def is_bottom(file: str) -> bool:
    """Whether a frame of that source file runs the code under test, and what is below on the stack isn't part of it."""
    return file.startswith(_BOTTOM)


def lines_of(frames: Iterable[FrameType]) -> tuple[Line, ...]:
    """The user's lines among ``frames``, which come from the innermost on: at most four, down to what runs the code."""
    found: list[Line] = []
    for frame in frames:
        code = frame.f_code
        if is_users(code.co_filename):
            found.append((code, frame.f_lineno or code.co_firstlineno))
            if len(found) == _KEPT:
                break
        elif is_bottom(code.co_filename):
            break
    return tuple(found)


def lines_up_from(frame: FrameType | None) -> tuple[Line, ...]:
    """The user's lines on the stack of ``frame``, the innermost first."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return lines_of(frames)


_WITH_LOCKS = tuple(path + name for path in _STANDARD for name in (os.path.join("concurrent", ""), "queue.py"))
_OF_LOCKS = tuple(os.path.join(*path) for path in (("anyio", "_core", "_synchronization.py"), ("trio", "_sync.py")))
"""Where installed packages have locks for whoever calls them …"""
_OF_BACKENDS = os.path.join("anyio", "_backends", "")
_IN_BLOCKS = ("__aenter__", "__aexit__")
"""… or only these methods of them."""
_OF_THREADING = ("Barrier.", "Event.", "Semaphore.", "Thread.")
"""What of the standard library has locks of its own: whoever waits for a future, say, holds none."""
_NOWHERE: Line = compile("", "", "exec"), 0
"""The line of a lock that was asked for in a task of its own, as ``asyncio.wait_for`` does."""


def users_line(frame: FrameType | None) -> Line | None:
    """The line of the user's that asks for a lock; ``None`` where a library does, for its own purposes."""
    while frame is not None and frame.f_code is not CONDITION_WAIT and _is_between(frame.f_code):
        file, name = frame.f_code.co_filename, frame.f_code.co_qualname
        if file == asyncio.events.__file__:
            return _NOWHERE
        if file.startswith(_WITH_LOCKS) or (is_standard(file) and name.startswith(_OF_THREADING)):
            return None
        frame = frame.f_back
    if frame is None or not is_users(frame.f_code.co_filename):
        return None
    return frame.f_code, frame.f_lineno or 0


def _is_between(code: CodeType) -> bool:
    """Whether a frame of that code is between a lock and whoever asks for it."""
    file = code.co_filename
    of_a_block = code.co_name in _IN_BLOCKS and _OF_BACKENDS in file
    return is_standard(file) or file.endswith(_OF_LOCKS) or of_a_block


def takes_what_is_there(frame: FrameType) -> bool:
    """Whether the caller of ``os.mkdir`` makes sure of a folder (``exist_ok=True``), and so does not lock with it."""
    return is_standard(frame.f_code.co_filename) and bool(frame.f_locals.get("exist_ok"))


def text(line: Line) -> str:
    """A line as it is shown: ``dispatch.py:31``."""
    code, number = line
    folder, name = os.path.split(code.co_filename)
    if name in ("__init__.py", "__main__.py"):  # says nothing without its package
        name = f"{os.path.basename(folder)}/{name}"
    return f"{redact(name)}:{number}"


class Lines:
    """An observer of a journal: notes for each request the lines on the stack of whoever sends it."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Line, ...]] = {}

    def observe(self, event: Event) -> None:
        """Take note of an event, in the call that has journalled it."""
        if event.type == "invoke" and event.op is not None and (found := self.behind(event)):
            self._found[event.op] = found

    def behind(self, event: Event) -> tuple[Line, ...]:
        """The user's lines behind a request."""
        del event
        return lines_up_from(sys._getframe())

    def facts(self) -> dict[int, dict[str, Any]]:
        """For each request's number: ``at``, the line that sent it, and ``via``, the lines that called this one."""
        return {op: {"at": text(at), "via": [*map(text, via)]} for op, (at, *via) in self._found.items()}
