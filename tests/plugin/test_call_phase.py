"""The check is part of the call: a violation is a failure of the test, whatever else its body did."""

from __future__ import annotations

import pytest

HEADLINE = "claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#5)"


@pytest.mark.parametrize(
    ("body", "outcomes", "summary"),
    [
        ("spend_once(claude_tokens)", {"passed": 1}, ""),
        ("spend_once(claude_tokens); assert 0", {"failed": 1}, "- assert 0"),
        ("spend_twice(claude_tokens)", {"failed": 1}, HEADLINE),
        ("spend_twice(claude_tokens); assert 0", {"failed": 1}, HEADLINE),
        ("spend_twice(claude_tokens); raise KeyError(1)", {"failed": 1}, HEADLINE),
        ("spend_twice(claude_tokens); claude_tokens.check()", {"failed": 1}, HEADLINE),
        ("spend_twice(claude_tokens); pytest.skip('why')", {"skipped": 1}, "why"),
        ("spend_twice(claude_tokens); raise unittest.SkipTest('why')", {"skipped": 1}, "why"),
        ("spend_twice(claude_tokens); pytest.xfail('why')", {"xfailed": 1}, "why"),
        ("spend_twice(claude_tokens); pytest.fail('why')", {"failed": 1}, "Failed: why"),
        ("spend_once(claude_tokens); pytest.fail('why')", {"failed": 1}, "Failed: why"),
    ],
)
def test_a_violation_outranks_an_error_of_the_body_and_nothing_else(pytester, body, outcomes, summary):
    """FAILED in one phase, never PASSED and ERROR; skips and expected failures stay what they are."""
    pytester.makepyfile(
        f"""
        import unittest, pytest
        from pool import *

        def test_it(claude_tokens):
            {body}
        """
    )
    result = pytester.runpytest("-rA")

    result.assert_outcomes(**outcomes)
    assert summary in str(result.stdout)
    assert ("claude-tokens history" in str(result.stdout)) is ("failed" in outcomes and "twice" in body)


def test_a_violation_that_the_body_has_seen_is_not_raised_again(pytester):
    """Whoever expects it with `pytest.raises` has a test that passes."""
    pytester.makepyfile(
        """
        import pytest
        from pool import *
        from pytest_claude_tokens.violations import DoubleSpend

        def test_it(claude_tokens):
            spend_twice(claude_tokens)
            with pytest.raises(DoubleSpend):
                claude_tokens.check()
            claude_tokens.check()
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_the_error_that_was_outranked_is_its_cause(pytester):
    """The losing worker's own error is still there to be read."""
    pytester.makepyfile(
        """
        from pool import *

        def test_it(claude_tokens):
            spend_twice(claude_tokens)
            raise KeyError("of w1")
        """
    )
    result = pytester.runpytest()

    result.stdout.fnmatch_lines(
        [
            f"E   {HEADLINE.replace('[', '[[]')}",
            "*- claude-tokens history -*",
            "error   KeyError: 'of w1' (test_the_error_that_was_outranked_is_its_cause.py:5); all: --tb=long",
        ]
    )


@pytest.mark.parametrize(
    ("mark", "body", "outcomes"),
    [
        ("", "spend_twice(claude_tokens)", {"xfailed": 1}),
        ("", "spend_twice(claude_tokens); raise KeyError", {"xfailed": 1}),
        ("strict=True", "spend_twice(claude_tokens)", {"xfailed": 1}),
        ("strict=True", "spend_once(claude_tokens)", {"failed": 1}),
        ("raises=DoubleSpend", "spend_twice(claude_tokens); raise KeyError", {"xfailed": 1}),
        ("raises=CoSchedule", "spend_twice(claude_tokens)", {"failed": 1}),
    ],
)
def test_a_violation_can_be_expected(pytester, mark, body, outcomes):
    """`pytest.mark.xfail` sees it as it sees any failure."""
    pytester.makepyfile(
        f"""
        import pytest
        from pool import *
        from pytest_claude_tokens.violations import CoSchedule, DoubleSpend

        @pytest.mark.xfail({mark})
        def test_it(claude_tokens):
            {body}
        """
    )
    pytester.runpytest().assert_outcomes(**outcomes)


@pytest.mark.parametrize("stop", ["KeyboardInterrupt", "pytest.exit.Exception"])
def test_who_stops_the_run_is_obeyed_and_the_service_is_closed(pytester, stop):
    """A BaseException is never replaced; teardown closes the handle all the same."""
    pytester.makepyfile(
        f"""
        import pytest
        from pool import *

        @pytest.fixture
        def last():
            kept = []
            yield kept
            assert kept[0].closed

        class Watched:
            def __init__(self, tokens):
                self.closed = False
                close = tokens.close
                def closing():
                    close()
                    self.closed = True
                tokens.close = closing

        def test_it(last, claude_tokens):
            last.append(Watched(claude_tokens))
            spend_twice(claude_tokens)
            raise {stop}("stop")

        def test_never(): ...
        """
    )
    result = pytester.runpytest_inprocess(no_reraise_ctrlc=True)

    result.assert_outcomes()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.no_fnmatch_line("*DoubleSpend*")


def test_a_service_of_a_broader_fixture_fails_the_test_that_broke_it(pytester):
    """It is looked at whenever a body has ended, and its own end is judged at its exit."""
    pytester.makepyfile(
        """
        import pytest
        from pool import *

        @pytest.fixture(scope="module")
        def tokens(make_claude_tokens):
            with make_claude_tokens() as tokens:
                yield tokens

        def test_before(tokens): ...
        def test_it(tokens): spend_twice(tokens)
        def test_error(tokens):
            spend_twice(tokens)
            raise KeyError
        def test_skip(tokens):
            pytest.skip("nothing new")
        def test_after(tokens): ...
        """
    )
    result = pytester.runpytest("-rA", "-vv")

    result.assert_outcomes(passed=2, failed=2, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "PASSED *::test_before",
            "FAILED *::test_it - claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#5)",
            "FAILED *::test_error - claude_tokens.DoubleSpend: a2:rt#1 by w0 (#9) and w1 (#12)",
        ],
    )
