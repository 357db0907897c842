"""Property tests: a service for each example, and one sentence for those who ask for one too few."""

from __future__ import annotations

import pytest

HEAD = """
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pool import *

few = settings(max_examples=20, database=None, derandomize=True, report_multiple_bugs=True)
"""


@pytest.mark.parametrize("fixture", ["claude_tokens", "claude_server"])
def test_a_service_for_one_test_is_refused_to_many_examples(pytester, fixture):
    """The message names the test and says what to use instead."""
    pytester.makepyfile(test_pool=HEAD + f"@few\n@given(n=st.integers())\ndef test_it({fixture}, n): ...\n")
    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        "test_pool.py::test_it: the fixture claude_tokens is made once for a test, and Hypothesis runs the body many "
        "times: use `with make_claude_tokens() as tokens:` inside the test, or @explore instead of @given."
    )


def test_whoever_suppresses_the_health_check_has_meant_it(pytester):
    """One service for all examples, judged at the end."""
    pytester.makepyfile(
        HEAD
        + """
@settings(few, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(0, 3))
def test_it(claude_tokens, n):
    spend_once(claude_tokens)
"""
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_service_for_each_example_fails_the_smallest_one(pytester):
    """Hypothesis shrinks as it does with any failure, and the story is that of the example it shows."""
    pytester.makepyfile(
        HEAD
        + """
@few
@given(n=st.integers(0, 50))
def test_it(make_claude_tokens, n):
    with make_claude_tokens(policy="anthropic-harsh") as tokens:
        secret = tokens.account(expired=True).refresh_token
        for worker in range(n):
            refresh(tokens, f"w{worker % 7}", secret)
"""
    )
    result = pytester.runpytest("-rA")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E       claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#5)",
            "E *test_it(",
            "E *n=2,",
            "*- claude-tokens history -*",
            "again   #5 *",
            "FAILED *- claude_tokens.DoubleS*",
        ]
    )


def test_of_distinct_failures_each_has_its_section(pytester):
    """Hypothesis raises a group of them; the headline of each is in its section's history."""
    pytester.makepyfile(
        test_pool=HEAD
        + """
@few
@given(n=st.integers(0, 2))
def test_it(make_claude_tokens, n):
    with make_claude_tokens() as tokens:
        if n == 1:
            spend_twice(tokens)
    with make_claude_tokens() as tokens:
        if n == 2:
            storm(tokens)
"""
    )
    result = pytester.runpytest("-rA")

    result.assert_outcomes(failed=1)
    assert str(result.stdout).count("- claude-tokens history -") == 2
    for headline in (
        "DoubleSpend: rt#1 by w0 (#2) and w1 (#5)",
        "RefreshStorm: g#1: 2 refreshes, 0 access tokens ended",
    ):
        result.stdout.fnmatch_lines(["*- claude-tokens history -*", f"claude_tokens.{headline}", "again *"])
    result.stdout.fnmatch_lines("FAILED *::test_it - claude_tokens.[DR]*")
    (folder,) = (path for path in pytester.path.joinpath(".claude-tokens").iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == [
        "history-2.jsonl",
        "history.jsonl",
        "timeline-2.html",
        "timeline.html",
    ]
    assert str(result.stdout).count(f".claude-tokens/{folder.name}/  history.jsonl") == 1
    assert str(result.stdout).count(f".claude-tokens/{folder.name}/  history-2.jsonl") == 1


def test_what_hypothesis_steers_by_is_let_through(pytester):
    """An example that `assume` gives up is no failure, whatever it has done before."""
    pytester.makepyfile(
        HEAD
        + """
from hypothesis import assume

@few
@given(n=st.integers(0, 10))
def test_it(make_claude_tokens, n):
    with make_claude_tokens() as tokens:
        if n > 5:
            spend_twice(tokens)
        assume(n <= 5)
"""
    )
    pytester.runpytest().assert_outcomes(passed=1)
