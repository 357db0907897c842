"""Which lines are the user's, and how they are put."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import httpx
import pytest

import fake_server
import pytest_claude_tokens
from fake_server.events import Event
from pytest_claude_tokens.runs import outcome
from pytest_claude_tokens.simulation import lines
from pytest_claude_tokens.simulation.lines import Lines, is_library, is_standard, is_users, lines_up_from, text


@pytest.mark.parametrize(
    ("file", "users", "library"),
    [
        (__file__, True, False),
        ("/home/me/project/dispatch.py", True, False),
        ("dispatch.py", True, False),
        (r"C:\project\.venv\Lib\site-packages\httpx\_client.py", False, True),
        ("/usr/lib/python3/dist-packages/requests/api.py", False, True),
        (httpx.__file__, False, True),
        (asyncio.__file__, False, False),
        (os.__file__, False, False),
        (json.__file__, False, False),
        (fake_server.__file__, False, False),
        (pytest_claude_tokens.__file__, False, False),
        ("<frozen importlib._bootstrap>", False, False),
        ("<string>", False, False),
    ],
)
def test_the_users_files_are_those_of_nobody_else(file, users, library):
    """Neither the standard library's, nor an installed package's, nor ours, wherever they are."""
    assert (is_users(file), is_library(file)) == (users, library)


def test_we_are_no_library_where_we_are_installed(monkeypatch):
    """Who asks for a lock is found behind our own lines, from a wheel as from a checkout."""
    monkeypatch.setattr(lines, "_OURS", ("/venv/site-packages/pytest_claude_tokens/",))
    assert is_standard("/venv/site-packages/pytest_claude_tokens/simulation/locks.py")
    assert not is_standard("/venv/site-packages/httpx/_client.py")


def test_lines_are_kept_from_the_innermost_on():
    """Those of libraries between them are left out; of many, the nearest four."""

    def here(depth):
        return here(depth - 1) if depth else lines_up_from(sys._getframe())

    found = json.loads("0", parse_int=lambda _: here(0))
    code, number = here(0)[0]

    assert [code.co_name for code, _ in found][:3] == [
        "here",
        "<lambda>",
        "test_lines_are_kept_from_the_innermost_on",
    ]
    assert (code, text((code, number))) == (here.__code__, f"test_lines.py:{here.__code__.co_firstlineno + 1}")
    assert len(here(9)) == 4


def test_what_called_the_search_is_behind_no_request():
    """A test may call an explored function itself: below the runner's frames there is nothing of the body's."""

    def body():
        return lines_up_from(sys._getframe())

    assert [code for code, _ in outcome.call(body, {})] == [body.__code__]


def test_a_package_is_named_with_its_init(tmp_path):
    """The name alone would say nothing."""
    code = compile("0", str(tmp_path / "pool" / "__init__.py"), "exec")

    assert text((code, 31)) == "pool/__init__.py:31"


def test_a_frame_without_a_line_is_told_by_its_function():
    """An interpreter may have none for code that a tool has made."""

    class Frame:
        f_code, f_lineno, f_back = test_a_frame_without_a_line_is_told_by_its_function.__code__, None, None

    ((code, number),) = lines_up_from(Frame())

    assert number == code.co_firstlineno


def test_only_the_beginning_of_a_request_has_a_line():
    """Its end comes while a connection is read."""
    lines = Lines()
    for op, kind in ((1, "invoke"), (1, "ok"), (None, "note")):
        lines.observe(Event(seq=1, t=0.0, actor="w0", type=kind, f="token", op=op))

    assert list(lines.facts()) == [1]
    assert lines.facts()[1]["at"].startswith("test_lines.py:")
