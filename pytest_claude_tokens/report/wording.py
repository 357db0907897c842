"""Plain text for a terminal: ASCII, and lines of at most :data:`WIDTH` columns."""

from __future__ import annotations

import textwrap

from fake_server.secrecy import printable
from pytest_claude_tokens.judge.wording import clip

__all__ = ["WIDTH", "ascii_only", "one_line", "paragraph"]

WIDTH = 100
"""Columns of the longest line."""


def ascii_only(text: str) -> str:
    """``text`` with each character escaped that a terminal or a log may not be able to show, or might obey."""
    return printable(text, keep="\n").encode("ascii", "backslashreplace").decode()


def one_line(text: str, width: int = WIDTH) -> str:
    """``text`` on one line of plain ASCII, cut to ``width`` columns."""
    return clip(ascii_only(text.replace("\n", " ")).rstrip(), width)


def paragraph(text: str, first: str = "", rest: str = "", *, break_on_hyphens: bool = True) -> list[str]:
    """``text`` in plain ASCII, wrapped; ``first`` begins the first line, ``rest`` each further line."""
    return textwrap.wrap(
        ascii_only(text), WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=break_on_hyphens
    )
