"""The hooks. They import the modules that do the work only when called, so that loading the plugin stays cheap."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import Any

import pytest

from pytest_claude_tokens.plugin import exploring, marker, options, session, shared, xdist

__all__ = ["GUARD"]  # the hooks are listed by the package, where pytest finds them

GUARD = "pytest_claude_tokens.guard.guard"
"""The module whose guard is turned off when the session ends, if a handle has loaded it.

A name, so that the plugin does not import it; a test checks that the module exists.
"""


_VIOLATIONS = "pytest_claude_tokens.judge.violations"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and refuse bad options before anything runs."""
    config.addinivalue_line("markers", marker.MARKER_HELP)
    options.check_options(config)
    config.stash[session.COMMAND] = exploring.command
    config.stash[session.INSIDE] = "PYTEST_CURRENT_TEST" in os.environ
    config.pluginmanager.register(exploring.Search(), "claude_tokens_search")
    if xdist.is_worker(config):
        config.pluginmanager.register(xdist.Worker(), "claude_tokens_worker")
    elif options.option(config, "shared-server") is not None:
        shared.own(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse bad markers before anything runs."""
    if not xdist.is_worker(config):
        marker.check_markers(items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Record the running test."""
    item.config.stash[session.CURRENT] = item
    return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Judge as soon as the body has ended: as the innermost wrapper, so that other plugins see the final outcome."""
    __tracebackhide__ = True
    try:
        result = yield
    except BaseException as error:
        item.stash[session.ENDED] = error
        found = _judge(item, error)
        if found is None:
            raise
        raise found from error
    found = _judge(item, None)
    if found is not None:
        raise found
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the findings to the report."""
    report = yield
    judge = item.config.stash.get(session.JUDGE, None)
    if judge is not None:
        judge.tell(item, call.excinfo.value if call.excinfo else None, report)
    return report


def pytest_report_header(config: pytest.Config) -> str | None:
    """Print the options that are not the default ones, as they can be typed again."""
    given = options.given(config)
    if given or config.get_verbosity() > 0:
        return f"claude-tokens: {' '.join(given) or 'default options'}"
    return None


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a comparison of violations or of histories: neither exists unless a handle was made."""
    if op != "==" or _VIOLATIONS not in sys.modules:
        return None
    from pytest_claude_tokens.plugin import assertions

    return assertions.compare(left, right)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what was tried, and for each violation how to see it again."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    facts = [report.claude_tokens for report in reports if hasattr(report, "claude_tokens")]
    if not facts:
        return
    from pytest_claude_tokens.report import summary

    again = summary.broken(facts)
    if again:
        terminalreporter.write_sep("=", "claude-tokens")
    for line in (*summary.summary(facts, every=config.get_verbosity() > 0), *again):
        terminalreporter.write_line(line)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in summary.marks(facts, os.environ.get("GITHUB_WORKSPACE", "")):
            terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Turn the guard off; a session inside a test (pytester's) leaves that to the outer session."""
    guard = sys.modules.get(GUARD)
    if guard is not None and not config.stash.get(session.INSIDE, False):
        guard.uninstall()


def _judge(item: pytest.Item, error: BaseException | None) -> BaseException | None:
    judge = item.config.stash.get(session.JUDGE, None)
    return None if judge is None else judge.judge(item, error)
