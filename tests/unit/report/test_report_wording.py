"""Plain text: one way to escape, to cut, to wrap and to count."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.wording import clip, count
from pytest_claude_tokens.report.story import _fitting
from pytest_claude_tokens.report.wording import WIDTH, ascii_only, one_line, paragraph
from tests.unit.judge.build import history


def test_what_is_not_ascii_is_escaped():
    """A terminal that knows only ASCII shows which character it was."""
    assert ascii_only("é€") == "\\xe9\\u20ac"
    assert one_line("é\n€ ") == "\\xe9 \\u20ac"


def test_a_cut_is_shown_and_counts():
    """The dots are within the length."""
    assert clip("x" * 10, 10) == "x" * 10
    assert clip("x" * 11, 10) == "x" * 7 + "..."
    assert one_line("x" * 200) == "x" * (WIDTH - 3) + "..."


def test_a_paragraph_hangs():
    """Its first line begins with one text, all others with another; words with hyphens may be kept whole."""
    lines = paragraph("é " * 60, "why     ", " " * 8)

    assert lines[0].startswith("why     \\xe9 ")
    assert {line[:9] for line in lines[1:]} == {" " * 8 + "\\"}
    assert max(map(len, lines)) <= WIDTH
    assert paragraph("x" * 95 + " ab-cdefgh", break_on_hyphens=False)[1] == "ab-cdefgh"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 requests"), (1, "1 request"), (2, "2 requests"), (12345, "12,345 requests")]
)
def test_things_are_counted(number, text):
    """In the singular and the plural, with commas between the thousands."""
    assert count(number, "request") == text


def test_a_plural_that_is_more_than_an_s():
    """It is given."""
    assert count(1, "history", "histories") == "1 history"
    assert count(2, "history", "histories") == "2 histories"


@pytest.mark.parametrize(("room", "rows"), [(30, 28), (20, 16), (1, 12), (-5, 12)])
def test_a_story_whose_other_parts_fill_the_page_has_a_dozen_rows(room, rows):
    """And as many more as there is room for, besides the heads and what was left out."""
    told = history("login\n" + "".join(f"a{one}: w0 other at#1\na{one} ok\nnote store op={one}\n" for one in range(20)))
    table = _fitting(told, set(), set(), room=room, kept=True)
    assert sum(line[4:5].isdigit() for line in table) == rows
