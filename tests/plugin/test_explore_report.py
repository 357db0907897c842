"""Explored tests under pytest: what a failure and the summary tell."""

from __future__ import annotations

import json
import re

import pytest

from tests.plugin.logins import BAD, SOUND, told


def test_a_failure_has_its_section_replay_line_and_history(explored, pytester):
    """In DESIGN's words: the title, the last line of the first block, how it was found, and the folder."""
    result = explored(BAD)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E   claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)",
            "*- claude-tokens history -*",
            "again   #3 *",
            "first   #2 *",
            "why     *",
            "after   *",
            'replay  *"test_it.py::test_bad" --claude-tokens-replay=ct1-*',
            "",
            "double-spend: *",
            "2 workers, 1 grant; *",
            "schedule 1*; replayed 3/3",
            "order: default order",
            "",
            ".claude-tokens/test_bad-*  history.jsonl*",
            "claude-tokens: 1 test, * schedules, 1 violation",
            "FAILED test_it.py::test_bad - claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)",
        ]
    )
    assert json.loads(told(pytester).splitlines()[0])["policy"] == {"name": "anthropic"}


def test_drawn_arguments_are_told(explored):
    """At the headline, and in the section."""
    result = explored(
        """
@few
@explore(n=st.integers(0, 100), name=st.text(max_size=3))
async def test_bad(claude_tokens, workers, name, n):
    await workers(Login(claude_tokens.account(expired=True), locked=n < 3).token)
"""
    )
    result.stdout.fnmatch_lines(["E   *DoubleSpend*", "    with n=3, name=''", "*history -*", "with n=3, name=''"])


def test_the_summary_says_how_hard_was_looked(explored):
    """One line for the run, and one for each explored test."""
    result = explored(
        SOUND
        + """
@explore(exhaustive=1)
async def test_systematic(claude_tokens, workers):
    await workers(Login(claude_tokens.account(expired=True)).token)

def test_plain(claude_tokens):
    pass
"""
    )
    text = str(result.stdout)
    assert re.search(r"^claude-tokens: 2 tests, \d+ schedules, 0 violations$", text, re.MULTILINE)
    assert re.search(
        r"^  test_it\.py::test_sound: 20 schedules, \d+ distinct histor(y|ies), next new \d+%, 1 of 1 race both ways$",
        text,
        re.MULTILINE,
    )
    assert re.search(
        r"^  test_it\.py::test_systematic: \d+ schedules?, \d+ distinct histor(y|ies): all with at most 1 deviation, "
        r"1 of 1 race both ways$",
        text,
        re.MULTILINE,
    )


MANY = """
for n in range(1, 13):
    def made(n):
        @settings(max_examples=n, database=None)
        @explore()
        async def test_it(claude_tokens, workers):
            await workers(Login(claude_tokens.account(expired=True)).token)
        return test_it
    globals()[f"test_{n:02}"] = made(n)
"""


@pytest.mark.parametrize(("verbose", "named"), [((), range(1, 11)), (("-v",), range(1, 13))])
def test_the_summary_names_the_ten_that_were_looked_at_least(explored, verbose, named):
    """All of them with ``-v``."""
    result = explored(MANY, *verbose)
    lines = re.findall(r"^  test_it\.py::test_(\d\d): (\d+) schedules?, ", str(result.stdout), re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(named)
    assert all(int(number) == int(schedules) for number, schedules in lines)


def test_a_search_that_proved_nothing_is_in_the_summary(explored):
    """``NothingRaced`` is a failure like any other; so is a run that differs."""
    result = explored(
        """
@few
@explore()
async def test_nothing(claude_tokens, workers):
    pass
"""
    )
    result.stdout.fnmatch_lines(
        [
            "E   claude_tokens.NothingRaced: 2 workers, no judged request while another's job was under way",
            "claude-tokens: 1 test, 20 schedules, *",
            "FAILED test_it.py::test_nothing - claude_tokens.NothingRaced: 2 workers, no judged *",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_claude_tokens/*.py*")
    result.stdout.no_fnmatch_line("*--full-trace*")


def test_a_search_that_passed_is_drawn_where_all_are(explored, pytester):
    """The history of its last run, which says VALID."""
    explored(SOUND, "--claude-tokens-html=always", "--claude-tokens-examples=2").assert_outcomes(passed=1)
    [page] = pytester.path.glob(".claude-tokens/test_sound-*/timeline.html")
    assert '"VALID">VALID<' in page.read_text()
    assert page.with_name("history.jsonl").exists()


NOT_OURS = """
@few
@explore()
async def test_not_ours(claude_tokens, workers):
    await workers(Login(claude_tokens.account(expired=True)).token)
    raise LookupError("of the body")
"""
TOLD = {
    "test_bad": "claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)",
    "test_not_ours": "LookupError: of the body",
}


@pytest.mark.parametrize("style", ["line", "no"])
def test_a_failed_search_is_told_in_each_style_of_traceback(explored, style):
    """Where pytest shows no section, the headline and the way to see it again are there all the same."""
    text = str(explored(BAD + NOT_OURS, f"--tb={style}", "-q", "--claude-tokens-examples=2").stdout)
    for test, headline in TOLD.items():
        assert f"FAILED test_it.py::{test} - {headline}" in text
        assert re.search(rf'^    replay  .*"test_it.py::{test}" --claude-tokens-replay=ct1-', text, re.MULTILINE)
        assert re.search(rf"^    see     \.claude-tokens/{test}-", text, re.MULTILINE)
    assert "claude-tokens: 2 tests, 6 schedules, 1 violation" in text
    if style == "line":  # the line of the test, not of what runs it; of the body's own error, that which raised
        places = dict(re.findall(r"test_it\.py:(\d+): (?:claude_tokens\.)?(\w+)", text))
        assert places == {"29": "DoubleSpend", "38": "LookupError"}
