"""Methods of `unittest.TestCase`, whose outcome is kept and not raised."""

from __future__ import annotations

import pytest

CASE = """
import pytest, unittest
from pool import *

@pytest.fixture
def tokens(request, claude_tokens):
    request.instance.tokens = claude_tokens

@pytest.mark.usefixtures("tokens")
class TestIt({base}):
    {decorator}
    {keyword} test_it(self):
        {body}
"""


def run(pytester: pytest.Pytester, body: str, *, decorator: str = "", base: str = "unittest.TestCase"):
    keyword = "async def" if "Async" in base else "def"
    pytester.makepyfile(test_case=CASE.format(body=body, decorator=decorator, base=base, keyword=keyword))
    return pytester.runpytest("-rA")


@pytest.mark.parametrize("base", ["unittest.TestCase", "unittest.IsolatedAsyncioTestCase"])
@pytest.mark.parametrize(
    ("body", "outcomes", "summary"),
    [
        ("spend_once(self.tokens)", {"passed": 1}, "PASSED"),
        ("spend_once(self.tokens); self.fail('why')", {"failed": 1}, "AssertionError: why"),
        ("spend_twice(self.tokens)", {"failed": 1}, "claude_tokens.DoubleSpend: rt#1"),
        ("spend_twice(self.tokens); self.fail('why')", {"failed": 1}, "claude_tokens.DoubleSpend: rt#1"),
        ("spend_twice(self.tokens); self.tokens.check()", {"failed": 1}, "claude_tokens.DoubleSpend: rt#1"),
        ("spend_twice(self.tokens); self.skipTest('why')", {"skipped": 1}, "why"),
        ("spend_twice(self.tokens); pytest.skip('why')", {"skipped": 1}, "why"),
    ],
)
def test_a_method_is_judged_as_a_function_is(pytester, base, body, outcomes, summary):
    """One outcome, in the call phase, with the story."""
    result = run(pytester, body, base=base)

    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(f"*{summary.replace('[', '[[]')}*")
    assert ("claude-tokens history" in str(result.stdout)) is ("claude_tokens" in summary)


def test_the_error_of_the_method_is_the_cause(pytester):
    """It is kept by unittest, and shown all the same."""
    result = run(pytester, "spend_twice(self.tokens); self.fail('why')")

    result.stdout.fnmatch_lines(
        [
            "E   claude_tokens.DoubleSpend: *",
            "*claude-tokens history*",
            "error   AssertionError: why (test_*.py:*); all: --tb=long",
        ]
    )


@pytest.mark.parametrize(
    ("body", "outcomes"),
    [
        ("spend_twice(self.tokens)", {"xfailed": 1}),
        ("spend_twice(self.tokens); self.fail()", {"xfailed": 1}),
        ("spend_once(self.tokens); self.fail()", {"xfailed": 1}),
        ("spend_once(self.tokens)", {"failed": 1}),
    ],
)
@pytest.mark.parametrize("whole_class", [False, True])
def test_an_expected_failure_may_be_a_violation(pytester, body, outcomes, whole_class):
    """`unittest.expectedFailure` is content with what the history shows, and disappointed where nothing fails."""
    if whole_class:
        body += "\nTestIt = unittest.expectedFailure(TestIt)"
    result = run(pytester, body, decorator="" if whole_class else "@unittest.expectedFailure")

    result.assert_outcomes(**outcomes)


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="before pytest 9 a failed subtest ended its method")
def test_a_failed_subtest_is_told_beside_the_violation(pytester):
    """The subtest by itself, the violation as the outcome of the method."""
    result = run(pytester, "with self.subTest(n=1): self.fail('why')\n        spend_twice(self.tokens)")

    result.stdout.fnmatch_lines(["*AssertionError: why", "*claude_tokens.DoubleSpend: rt#1*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert str(result.stdout).count("- claude-tokens history -") == 1


def test_an_error_in_tear_down_is_still_told(pytester):
    """A method may end with two errors: the violation takes the place of the first."""
    result = run(
        pytester, "spend_twice(self.tokens); self.fail('why')\n    def tearDown(self): raise KeyError('torn down')"
    )

    result.stdout.fnmatch_lines("FAILED *claude_tokens.DoubleSpend: rt#1*")
    assert "torn down" in str(result.stdout)
