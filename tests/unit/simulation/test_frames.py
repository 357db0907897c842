"""Which places in the code are shown to the author of a test."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import pytest

import fake_server
import pytest_claude_tokens
from pytest_claude_tokens.simulation import frames

PACKAGE = Path(pytest_claude_tokens.__file__).parent
ROOMS = [
    PACKAGE / "simulation" / "x.py",
    PACKAGE / "runs" / "x.py",
    PACKAGE / "x.py",
    Path(fake_server.__file__).parent / "transports" / "inprocess" / "x.py",
]


def compiled(source: str, path: Path, **names: Any) -> dict[str, Any]:
    """The names that ``source`` defines, as if it stood in the file ``path``."""
    exec(compile(source, str(path), "exec"), names)
    return names


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_frame_of_any_room_of_either_package_is_ours(path: Path) -> None:
    """Not only that of the room in which it is asked."""
    frame = compiled("import sys\nframe = sys._getframe()", path)["frame"]
    assert frames.is_ours(frame)


def test_frame_of_a_test_is_not_ours() -> None:
    """Nor is one of the standard library; a place is file, line and function."""
    frame: FrameType = sys._getframe()
    assert not frames.is_ours(frame)
    assert frames.place(frame) == f"test_frames.py:{frame.f_lineno} in test_frame_of_a_test_is_not_ours"
    assert not frames.is_ours(compiled("import sys\nframe = sys._getframe()", Path(asyncio.__file__))["frame"])


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_task_waits_at_the_innermost_line_of_the_test(path: Path) -> None:
    """Though it awaits something of ours there, which awaits something else."""
    ours = compiled("async def wait(future):\n    await future", path)["wait"]
    loop = asyncio.new_event_loop()

    async def mine() -> None:
        await ours(loop.create_future())

    coroutine = mine()
    coroutine.send(None)
    line = mine.__code__.co_firstlineno + 1
    assert frames.innermost_place(coroutine) == f"test_frames.py:{line} in mine"
    coroutine.close()

    alone = ours(loop.create_future())
    alone.send(None)
    assert frames.innermost_place(alone) == ""
    alone.close()
    loop.close()


@pytest.mark.parametrize(
    ("text", "libraries", "kept"),
    [
        ("0", True, ["raising", "loads", "decode", "raw_decode", "<lambda>"]),
        ("0", False, ["raising", "<lambda>"]),
        ("", False, ["raising"]),
    ],
)
def test_a_traceback_is_cut_to_the_users_frames(text, libraries, kept):
    """Those of a library tell how it does what was called, and there are many."""

    def raising() -> None:
        json.loads(text, parse_int=lambda _: 1 // 0)

    assert names(frames.of_the_user(cut(raising), libraries=libraries)) == kept


def test_a_traceback_without_a_frame_of_the_users_stays():
    """There is nothing else to show."""
    assert names(frames.of_the_user(cut(json.loads), libraries=False)) == []
    assert names(frames.of_the_user(cut(lambda: json.loads("")).tb_next, libraries=False)) == [
        "loads",
        "decode",
        "raw_decode",
    ]


def cut(function: Any) -> Any:
    """The traceback of what ``function`` raises, from itself on."""
    try:
        function()
    except (TypeError, ValueError, ArithmeticError) as error:
        return error.__traceback__ and error.__traceback__.tb_next
    return None


def names(traceback: TracebackType | None) -> list[str]:
    found = []
    while traceback is not None:
        found.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    return found
