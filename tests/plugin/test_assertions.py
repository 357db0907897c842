"""What a failed comparison of violations or histories says."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.plugin import hooks
from pytest_claude_tokens.plugin.assertions import compare
from tests.unit.judge.build import REFRESHED, history

BROKEN = list(judge(history(REFRESHED + "b: w1 token rt#1\nb fail")).violations)


@pytest.mark.parametrize(("left", "right"), [(BROKEN, []), ([], BROKEN), (tuple(BROKEN), ())])
def test_violations_are_told_one_by_one(left, right):
    """On whichever side they stand: class, headline and cause, instead of the `repr` of exceptions."""
    assert compare(left, right) == [
        "1 violation, and none expected:",
        "  claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#5)",
        f"    why: {BROKEN[0].cause}",
    ]


def test_a_violation_without_a_cause_has_no_why():
    """And what was expected is counted."""
    bare = type(BROKEN[0])("rt#1 again", seq=1)
    assert compare([bare], [1, 2]) == ["1 violation, and 2 expected:", "  claude_tokens.DoubleSpend: rt#1 again"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            "login\na: w1 token rt#1",
            [
                "two histories, of 4 and 2 events, that part at:",
                "  #2 w0: refresh rt#1 ...",
                "  #2 w1: refresh rt#1 ...",
            ],
        ),
        ("login", ["two histories, of 4 and 1 events, that part at:", "  #2 w0: refresh rt#1 ...", "  (it has ended)"]),
        (REFRESHED, ["two histories with the same 4 events, but they are two: compare their events"]),
    ],
)
def test_two_histories_are_told_where_they_part(other, says):
    """The first event that differs; what stands before it is the same."""
    assert compare(history(REFRESHED), history(other)) == says


@pytest.mark.parametrize(("left", "right"), [([], []), ([1], [2]), (BROKEN, 7), (history("login"), []), ("a", "b")])
def test_what_is_not_ours_is_left_to_pytest(left, right):
    """Also where one side only is."""
    assert compare(left, right) is None


def test_the_hook_answers_for_equality_only(monkeypatch):
    """And imports nothing as long as there can be no violation."""
    assert hooks.pytest_assertrepr_compare("==", BROKEN, []) == compare(BROKEN, [])
    assert hooks.pytest_assertrepr_compare("!=", BROKEN, []) is None
    monkeypatch.setattr(hooks, "_VIOLATIONS", "not.loaded")
    assert hooks.pytest_assertrepr_compare("==", BROKEN, []) is None


def test_an_assertion_in_a_test_shows_it(pytester):
    """With the view of a running service, too, whose history goes on."""
    pytester.makepyfile(
        test_it="""
        import pytest
        from pool import *

        def test_it(claude_tokens):
            spend_twice(claude_tokens)
            with pytest.raises(AssertionError) as caught:
                assert claude_tokens.violations() == []
            print(caught.value)

        def test_views(claude_tokens, make_claude_tokens):
            spend_once(claude_tokens)
            with make_claude_tokens() as other:
                assert claude_tokens.history == other.history
        """
    )
    result = pytester.runpytest()
    result.stdout.fnmatch_lines(
        [
            "assert 1 violation, and none expected:",
            "    claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#5)",
        ]
    )
    result.stdout.fnmatch_lines(["E           assert two histories, of * and 0 events, that part at:"])
