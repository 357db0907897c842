"""No test is left unjudged because a module can't be found by its name."""

from __future__ import annotations

import importlib.util

import pytest

from pytest_claude_tokens.cli import main
from pytest_claude_tokens.plugin import hooks


@pytest.fixture
def alone(monkeypatch):
    """Runs in a process of their own, as the modules of this one are in use; it loads the plugin once."""
    monkeypatch.setenv(
        "PYTEST_ADDOPTS", "-p no:cacheprovider -p no:randomly -o asyncio_default_fixture_loop_scope=function"
    )


FORGET = """
        def forget():
            for name in [name for name in sys.modules if name.partition(".")[0] == "pytest_claude_tokens"]:
                del sys.modules[name]
"""


def test_a_fixture_that_empties_sys_modules_leaves_no_test_unjudged(pytester, alone):
    """The test that has its handle is judged; one that would get a handle of other modules is refused one."""
    pytester.makepyfile(
        f"""
        import sys, pytest
        from pool import *
        {FORGET}
        @pytest.fixture
        def forgotten():
            forget()

        def test_it(claude_tokens, forgotten):
            spend_twice(claude_tokens)

        def test_after_it(claude_tokens):
            spend_twice(claude_tokens)
        """
    )
    result = pytester.runpytest_subprocess()

    result.assert_outcomes(failed=1, errors=1)
    assert "claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#5)" in str(result.stdout)
    assert "pytest_claude_tokens was imported a second time while its plugin was in use" in str(result.stdout)


def test_an_explored_test_is_judged_whatever_becomes_of_sys_modules(pytester, alone):
    """What the search needs at its end is loaded when the test begins."""
    pytester.makepyfile(
        f"""
        import sys, pytest
        from pool import *
        from pytest_claude_tokens import explore
        {FORGET}
        @pytest.fixture(scope="session", autouse=True)
        def forgotten():
            forget()

        @explore(workers=2)
        def test_it(claude_tokens, workers):
            secret = claude_tokens.account(expired=True).refresh_token
            names = iter(("w0", "w1"))
            workers(lambda: refresh(claude_tokens, next(names), secret))
        """
    )
    result = pytester.runpytest_subprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*claude_tokens.DoubleSpend*"])


@pytest.mark.parametrize("body", ["claude_tokens.account()", "make_claude_tokens().open()"])
def test_a_suite_whose_judge_cannot_be_loaded_fails(pytester, alone, body):
    """An error of the fixture, which no test passes."""
    pytester.makeconftest("import sys; sys.modules['pytest_claude_tokens.plugin.call_phase'] = None")
    pytester.makepyfile(f"def test_it({body.partition('.')[0].removesuffix('()')}): {body}")
    outcomes = pytester.runpytest_subprocess().parseoutcomes()

    assert not outcomes.get("passed")
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 1


@pytest.mark.parametrize("name", [hooks.GUARD, *(command.module for command in main.COMMANDS)])
def test_a_module_that_is_found_by_its_name_exists(name):
    assert importlib.util.find_spec(name) is not None
