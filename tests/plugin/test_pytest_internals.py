"""One canary for each private name of pytest and of unittest that the plugin uses.

Where one fails with a new version, its message says what the name was used for and what to do.
"""

from __future__ import annotations

import io
import re
import unittest
from pathlib import Path

import pytest

import pytest_claude_tokens
from pytest_claude_tokens.handle.judgement import replaceable
from pytest_claude_tokens.plugin import pytest_internals
from pytest_claude_tokens.runs.outcome import is_failure

HOME = "pytest_claude_tokens/plugin/pytest_internals.py"


@pytest.fixture
def a_fixture():
    return 5


def test_an_item_knows_the_fixtures_of_its_arguments(request, a_fixture):
    """`Item._fixtureinfo`: whether an explored test has a fixture that is made once for all schedules."""
    info = getattr(request.node, "_fixtureinfo", None)
    assert hasattr(info, "argnames"), f"ask pytest's FixtureManager.getfixtureinfo(node, func, cls) in {HOME}"
    assert hasattr(info, "name2fixturedefs"), f"ask pytest's FixtureManager.getfixturedefs(name, node) in {HOME}"

    assert dict(pytest_internals.fixture_scopes(request.node))["a_fixture"] == "function"


def test_an_item_can_be_asked_for_a_fixture_from_outside(request, a_fixture):
    """`Item._request`: the policy that a test's own override of the fixture names."""
    assert hasattr(request.node, "_request"), (
        f"keep the FixtureRequest of an autouse fixture in the item's stash, and ask that one in {HOME}"
    )
    assert pytest_internals.fixture_value(request.node, "a_fixture") == a_fixture


def test_the_error_of_a_unittest_method_is_kept_in_the_item(pytester):
    """`TestCaseFunction._excinfo`: pytest raises a method's error nowhere, and its report is made of this list."""
    pytester.makepyfile(
        """
        import unittest
        class TestIt(unittest.TestCase):
            def test_it(self):
                raise KeyError("of the body")
        """
    )
    pytester.makeconftest(
        """
        import pytest
        from pytest_claude_tokens.plugin import pytest_internals
        @pytest.hookimpl(wrapper=True, trylast=True)
        def pytest_runtest_call(item):
            yield
            print("kept:", [kept.typename for kept in pytest_internals.errors_of_unittest(item)])
            del item._excinfo[:]
        """
    )
    result = pytester.runpytest("-s")

    assert "kept: ['KeyError']" in str(result.stdout), f"find where _pytest/unittest.py keeps errors now, for {HOME}"
    result.assert_outcomes(passed=1)  # the list is what the report is made of


def test_no_other_module_uses_a_private_name_of_pytest():
    """Nor imports a private module of it: one place to look at when a new pytest comes."""
    private = re.compile(
        r"(import|from) _pytest|\._(fixtureinfo|request|excinfo)\b|\"_excinfo\"|reprcrash|extraline|\\._tw\\b"
    )
    package = Path(pytest_claude_tokens.__file__).parent
    users = [path for path in package.rglob("*.py") if private.search(path.read_text("utf-8"))]

    assert [path.relative_to(package.parent).as_posix() for path in users] == [HOME]


def test_another_test_keeps_no_error(request):
    """Its error is raised."""
    assert pytest_internals.errors_of_unittest(request.node) == []


@pytest.mark.parametrize(("hidden", "always"), [(True, False), (False, False), (False, True)])
def test_a_report_can_be_told_where_and_what(pytester, hidden, always):
    """`ExceptionChainRepr.chain`, `ReprTraceback.extraline`, `ReprFileLocation`: the last line of a report."""
    pytester.makepyfile(
        test_it=f"def test_it():\n    __tracebackhide__ = {hidden}\n    raise KeyError('of the body')\n"
    )
    pytester.makeconftest(
        f"""
        import pytest
        from pytest_claude_tokens.plugin import pytest_internals
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            if report.when == "call":
                pytest_internals.redescribe(report.longrepr, "test_it.py", 7, "said instead", always={always})
            return report
        """
    )
    shown = str(pytester.runpytest("-p", "no:claude_tokens").stdout)

    instead = "FAILED test_it.py::test_it - said instead" in shown
    assert instead == (hidden or always), f"see ReprFileLocation in _pytest/_code/code.py, for redescribe() in {HOME}"
    assert ("All traceback entries are hidden" in shown) == (hidden and not instead)


def test_a_report_can_be_cut_to_what_was_raised_last():
    """`ExceptionChainRepr.chain` and `ReprTraceback.reprentries`, `ReprEntry`: with a message in place of the code."""
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("last") from error
    except ValueError:
        shown = pytest.ExceptionInfo.from_current().getrepr()
    assert "KeyError: " in str(shown)
    pytest_internals.keep_last(shown)
    assert "KeyError: " not in str(shown)
    assert "last" in str(shown), f"see ExceptionChainRepr in _pytest/_code/code.py, for keep_last() in {HOME}"
    pytest_internals.redescribe(shown, "test_it.py", 7, "said\ninstead", always=True, empty=True)
    assert str(shown) == "E   said\nE   instead", f"see ReprEntry in _pytest/_code/code.py, for redescribe() in {HOME}"


def test_a_native_report_stays_as_it_is():
    """With `--tb=native` it is a text without parts."""
    pytest_internals.keep_last("a text")
    pytest_internals.redescribe("a text", "test_it.py", 7, "said instead", always=True)


@pytest.mark.parametrize(("options", "known"), [("", True), ("-p no:logging -p no:capture", False)])
def test_what_a_phase_has_printed_and_logged_can_be_forgotten(pytester, options, known):
    """`CaptureManager.read_global_capture`, and the handlers of `LoggingPlugin`; without those plugins nothing is."""
    pytester.makepyfile(
        """
        import logging
        from pytest_claude_tokens.plugin import pytest_internals
        def test_it(request):
            print("printed before")
            logging.getLogger().warning("logged before")
            pytest_internals.output(request.config)()
            print("printed after")
            logging.getLogger().warning("logged after")
        """
    )
    shown = str(pytester.runpytest("-p", "no:claude_tokens", "-rP", *options.split()).stdout)

    assert ("printed before" in shown) is not known, f"see read_global_capture() in _pytest/capture.py, for {HOME}"
    assert ("logged before" in shown) is False, f"see LogCaptureHandler in _pytest/logging.py, for {HOME}"
    assert ("printed after" in shown, "logged after" in shown) == (True, known)


@pytest.mark.parametrize(
    "error", [pytest.skip.Exception, pytest.xfail.Exception, pytest.fail.Exception, pytest.exit.Exception]
)
def test_outcomes_of_pytest_are_known_by_their_module(error):
    """`_pytest.outcomes`: a handle must not import pytest, so it goes by the name of the module."""
    assert "_pytest.outcomes" in [kind.__module__ for kind in error.__mro__], (
        "put the new module into _SIGNALS of handle/judgement.py"
    )
    assert not replaceable(error("told"))


def test_the_failure_of_a_body_is_known_by_its_name():
    """`builtins.Failed`: a run must not import pytest either, to tell a failed body from another interruption."""
    kind = pytest.fail.Exception
    assert (kind.__module__, kind.__qualname__) in (("_pytest.outcomes", "Failed"), ("builtins", "Failed")), (
        "put the new name into is_failure() of runs/outcome.py"
    )


def test_a_time_out_is_no_failure_of_the_body():
    """pytest-timeout fails a test like `pytest.fail` does, from a frame of its own: no run is repeated for it."""
    namespace = {"__name__": "pytest_timeout", "fail": pytest.fail}
    exec("def handler():\n    fail('Timeout')", namespace)

    with pytest.raises(pytest.fail.Exception) as timed_out:
        namespace["handler"]()
    with pytest.raises(pytest.fail.Exception) as failed:
        pytest.fail("why")

    assert (is_failure(timed_out.value), is_failure(failed.value)) == (False, True)


def test_a_method_that_is_expected_to_fail_says_so():
    """`__unittest_expecting_failure__`: what such a method expects may be a violation."""

    class Case(unittest.TestCase):
        @unittest.expectedFailure
        def test_it(self): ...

    assert getattr(Case.test_it, "__unittest_expecting_failure__", False), (
        "see expectedFailure() in unittest/case.py, for _is_unexpected_success() of plugin/call_phase.py"
    )


def test_the_terminal_is_written_to_while_output_is_captured(pytester, monkeypatch):
    """`TerminalReporter.isatty` and `._tw`, `TerminalWriter._file`, `.fullwidth`: a text is shown, and not counted."""
    config = pytester.parseconfigure("-v")
    assert pytest_internals.terminal(config) is None, "that is no terminal"
    writer = config.pluginmanager.getplugin("terminalreporter")._tw
    shown = io.StringIO()
    monkeypatch.setattr(config.pluginmanager.getplugin("terminalreporter"), "isatty", True)
    monkeypatch.setattr(writer, "_file", shown)
    terminal = pytest_internals.terminal(config)
    assert terminal is not None, f"see terminal() in {HOME}"

    writer.write("test_it ")
    room = terminal.room()
    terminal.write("far")

    assert shown.getvalue() == "test_it far"
    assert terminal.room() == room == writer.fullwidth - len("test_it ")
