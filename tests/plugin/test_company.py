"""Beside other plugins: reruns, time-outs, subtests, xdist; and how little it costs who doesn't use it."""

from __future__ import annotations

import re
import sys

import pytest

from pytest_claude_tokens import plugin
from pytest_claude_tokens.guard import guard

HEADLINE = "claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#5)"


@pytest.fixture
def alone(pytester, monkeypatch):
    """No other plugin is loaded, but those that a test names."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_claude_tokens.plugin -p no:cacheprovider")


def test_each_rerun_has_a_service_of_its_own(pytester):
    """A test that is sound the second time has passed, and nothing of the first time is left."""
    pytester.makepyfile(
        test_it="""
        import pytest
        from pool import *

        runs = []

        @pytest.mark.flaky(reruns=2)
        def test_it(claude_tokens):
            assert not claude_tokens.history.operations
            runs.append(claude_tokens)
            spend_twice(claude_tokens) if len(runs) == 1 else spend_once(claude_tokens)

        @pytest.mark.flaky(reruns=1)
        def test_never(claude_tokens):
            spend_twice(claude_tokens)
        """
    )
    reports = [one for one in pytester.inline_run().getreports("pytest_runtest_logreport") if one.when == "call"]

    told = [(one.outcome, [pair for pair in one.user_properties if pair[0] == "claude_tokens"]) for one in reports]
    assert told == [
        ("rerun", [("claude_tokens", HEADLINE)]),
        ("passed", []),
        ("rerun", [("claude_tokens", HEADLINE)]),
        ("failed", [("claude_tokens", HEADLINE)]),
    ]


def test_a_test_that_takes_too_long_fails_by_that_and_its_history_is_told(pytester):
    """The signal of pytest-timeout ends the body; the service is closed, the next test has its own."""
    pytester.makepyfile(
        test_it="""
        import pytest, threading
        from pool import *

        @pytest.mark.timeout(0.2, method="signal", func_only=True)
        def test_it(claude_tokens):
            spend_twice(claude_tokens)
            threading.Event().wait(30)

        def test_after(claude_tokens):
            spend_once(claude_tokens)
        """
    )
    result = pytester.runpytest()

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*- claude-tokens history -*", HEADLINE, "FAILED *Timeout*"])


def test_a_test_that_is_killed_for_taking_too_long_is_no_trouble(pytester, alone):
    """pytest-timeout's thread ends the process: nothing can be judged, and the stacks are shown."""
    pytester.makepyfile(
        test_it="""
        import pytest, threading

        @pytest.mark.timeout(0.2, method="thread", func_only=True)
        def test_it(claude_tokens):
            threading.Event().wait(30)
        """
    )
    result = pytester.runpytest_subprocess("-p", "pytest_timeout")

    assert result.ret == 1
    assert "Timeout" in str(result.stdout) + str(result.stderr)


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="subtests came with pytest 9")
def test_a_subtest_that_checks_has_the_story(pytester):
    """It is a report of its own; the test's outcome does not tell it a second time."""
    pytester.makepyfile(
        test_it="""
        from pool import *

        def test_it(claude_tokens, subtests):
            spend_twice(claude_tokens)
            with subtests.test("here"):
                claude_tokens.check()
        """
    )
    result = pytester.runpytest()

    result.stdout.fnmatch_lines(f"SUBFAILED*here* - {HEADLINE}")
    assert str(result.stdout).count("- claude-tokens history -") == 1


# xdist.

SUITE = """
import pytest
from pool import *
from pytest_claude_tokens.plugin.reporting import FACTS

@pytest.mark.parametrize("n", range(50))
def test_sound(claude_tokens, n):
    spend_once(claude_tokens)

@pytest.mark.parametrize("n", [1, 2])
def test_explored(request, claude_tokens, n):
    request.node.stash[FACTS] = {"explored": {"schedules": n, "summary": f"{n} schedules"}}

def test_broken(claude_tokens):
    spend_twice(claude_tokens)
"""


@pytest.mark.parametrize("workers", [0, 2, pytest.param(4, marks=pytest.mark.nightly)])
def test_a_suite_gives_the_same_results_on_any_number_of_workers(pytester, alone, workers):
    """Fifty tests, each with a service of its own; what one found is told once; all numbers reach the summary."""
    pytester.makepyfile(test_it=SUITE)
    result = pytester.runpytest_subprocess("-p", "xdist", f"-n{workers}", "--junitxml=out.xml", "-q")

    result.assert_outcomes(passed=52, failed=1)
    text = str(result.stdout)
    assert text.count("- claude-tokens history -") == 1
    assert text.count("again   #5 ") == 1
    assert re.findall(r"FAILED .*", text) == [f"FAILED test_it.py::test_broken - {HEADLINE}"]
    assert (pytester.path / "out.xml").read_text().count(f'<property name="claude_tokens" value="{HEADLINE}"') == 1
    assert "\nclaude-tokens: 2 tests, 3 schedules, 1 violation\n" in text
    assert "\n  and 51 tests without a search\n" in text
    (history,) = pytester.path.glob(".claude-tokens/*/history.jsonl")
    assert history.parent.name in text


def test_a_wrong_marker_fails_its_test_on_a_worker(pytester, alone):
    """There a usage error would look like a crash."""
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.claude_tokens(polcy="gateway")
        def test_it(): ...
        def test_other(): ...
        """
    )
    result = pytester.runpytest_subprocess("-p", "xdist", "-n1")

    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        "test_it.py::test_it: the marker claude_tokens has no argument 'polcy' (did you mean policy?); it takes *"
    )


# Who doesn't use it.

OF_PDB = () if sys.version_info >= (3, 14) else ("asyncio", "ssl")  # since 3.14 pytest loads these with pdb
HEAVY = (*OF_PDB, "hypothesis", "httpx", "httpx2", "httpcore", "respx", "httptools", "fake_server")


def test_a_run_that_does_not_use_it_loads_nothing(pytester, alone):
    """What the plugin costs then: pytest and the standard library, without asyncio and ssl."""
    pytester.makepyfile(test_it="def test_it(): ...")
    pytester.makeconftest(
        f"""
        import atexit, sys
        atexit.register(lambda: print("loaded:", [name for name in {HEAVY!r} if name in sys.modules]))
        """
    )
    result = pytester.runpytest_subprocess()

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("loaded: [[]]")


def test_the_real_service_is_guarded_until_the_outermost_session_ends(pytester, monkeypatch):
    """A session inside a test is not the last one; of a session by itself, no guard is left."""
    pytester.makepyfile("def test_it(claude_tokens): ...")
    guard.uninstall()

    pytester.runpytest().assert_outcomes(passed=1)
    assert guard._active

    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # which the inner session has removed already
    pytester.runpytest().assert_outcomes(passed=1)
    assert not guard._active


def test_it_can_be_turned_off_by_its_name(pytester):
    """`-p no:claude_tokens`: no fixture, no option, no marker."""
    pytester.makepyfile("def test_it(claude_tokens): ...")
    result = pytester.runpytest("-p", "no:claude_tokens")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("*fixture 'claude_tokens' not found*")


def test_the_asserts_of_the_service_are_rewritten(pytester, alone):
    """Also from an editable install, where pytest would rewrite the package of the entry point only."""
    pytester.makepyfile(
        """
        from _pytest.assertion.rewrite import AssertionRewritingHook
        import fake_server.core.gate

        def test_it():
            assert isinstance(fake_server.core.gate.__loader__, AssertionRewritingHook)
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_the_plugin_is_short():
    """Hooks only: whatever is longer belongs elsewhere."""
    with open(plugin.__file__, encoding="utf-8") as file:
        assert len(file.readlines()) <= 200
    assert "pytest_claude_tokens.plugin" in sys.modules
