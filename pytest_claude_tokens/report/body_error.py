"""The error that a test's body ended with, in one line beside a story: what, at which lines of the user's.

pytest shows a chain of exceptions in full, first the innermost: with a group of tasks and a client of HTTP these are a
hundred lines and more of other people's frames, before the story that explains them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_server.secrecy import redact
from pytest_claude_tokens.judge.violations import Violation
from pytest_claude_tokens.report.wording import one_line
from pytest_claude_tokens.simulation.lines import is_users, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["headline", "leaves", "unshown", "users_frames"]

_NAMED = 2
"""Errors of a group that are told; further ones are only counted."""
_LINES = 2
"""Lines of the user's that are told of each, from where it was raised on."""
_LENGTH = 80
"""Characters of an error's message."""


def unshown(finding: BaseException) -> str:
    """What pytest would show before ``finding``, in words: what it was raised from, or what a group consists of."""
    if isinstance(finding, BaseExceptionGroup):
        return _in_words(finding)
    source = finding.__cause__ or (None if finding.__suppress_context__ else finding.__context__)
    if source is None:
        return ""
    return _in_words(source) if isinstance(finding, Violation) else f"raised from {_in_words(source)}"


def _in_words(error: BaseException) -> str:
    found = list(leaves(error))
    told = [_told(one) for one in found[:_NAMED]]
    return "; ".join([*told, *([f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else [])])


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups within it; an exception that is no group is its own."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error


def users_frames(traceback: TracebackType | None) -> list[TracebackType]:
    """Those of a traceback's entries that are in the user's files, the outermost first."""
    found = []
    while traceback is not None:
        if is_users(traceback.tb_frame.f_code.co_filename):
            found.append(traceback)
        traceback = traceback.tb_next
    return found


def headline(error: BaseException) -> str:
    """Class and message of an exception, on one line, as far as it can tell one."""
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    try:
        message = next(iter(str(error).splitlines()), "")
    except Exception as failed:  # noqa: BLE001 - a class of the user's that can't tell its message
        message = f"<its message can't be told: {type(failed).__name__}>"
    return one_line(redact(f"{name}: {message}" if message else name), _LENGTH)


def _told(error: BaseException) -> str:
    frames = users_frames(error.__traceback__)[::-1][:_LINES]
    places = dict.fromkeys(text((frame.tb_frame.f_code, frame.tb_lineno)) for frame in frames)
    return f"{headline(error)} ({', '.join(places)})" if places else headline(error)
