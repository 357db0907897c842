"""Judges a test in its call phase, when its body has ended.

So a violation makes the test that caused it FAILED, and not PASSED with an ERROR at teardown. It replaces an error that
the body ended with, and is raised from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fake_server.secrecy import safe_text
from pytest_claude_tokens.guard import guard
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.handle.judgement import replaceable
from pytest_claude_tokens.handle.runtime import Runtime
from pytest_claude_tokens.plugin import marker, options, reporting, session
from pytest_claude_tokens.plugin.pytest_internals import errors_of_unittest
from pytest_claude_tokens.plugin.recorder import Recorder, recorders
from pytest_claude_tokens.plugin.usage import discreet_usage

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["judge", "make", "register"]


def register(config: pytest.Config) -> None:
    """Make this module the judge of the session, and apply the ini option that allows the real hosts."""
    guard.allow_real_hosts(options.real_hosts_allowed(config))
    config.stash[session.JUDGE] = _CallPhase()


@discreet_usage
def make(
    request: pytest.FixtureRequest, default: Callable[[str], Any], *, own: bool = False, **given: Any
) -> ClaudeTokens:
    """A handle with the settings of the running test's marker, overridden by those ``given``.

    ``default`` returns the value of a fixture, for what neither names. ``own``: the handle belongs to one test, and its
    history ends with that test's body. Raises :class:`pytest.UsageError`.
    """
    __tracebackhide__ = True
    item = session.current(request.config)
    register(request.config)
    recorder = Recorder(request.config, own=own)
    try:
        settings = marker.merge(marker.marked(item), {k: v for k, v in given.items() if v is not None})
        settings = marker.completed(settings, default)
        recorder.handle = ClaudeTokens(**settings, runtime=Runtime(recorder=recorder))
    except ValueError as error:
        raise pytest.UsageError(safe_text(f"{item.nodeid}: {request.fixturename} {error}")) from None
    return recorder.handle


def judge(item: pytest.Item, error: BaseException | None) -> BaseException | None:
    """The error that replaces ``error``, with which the body of ``item`` ended; ``None``: the result stays as it is."""
    watching = recorders(item.config)
    if not watching:
        return None
    kept = errors_of_unittest(item)
    if error is None and kept:
        error = kept[0].value
    disappointed = error is not None and _is_unexpected_success(item, error)
    if disappointed:
        error = None
    if error is not None and not replaceable(error):
        if type(error) is pytest.fail.Exception:  # such as a time-out: the report shows both
            findings = [recorder.secondary() for recorder in watching if recorder.own]
            item.stash[reporting.SECONDARY] = [found for found in findings if found is not None]
        return None
    found = _first_finding(watching, error)
    if found is None:
        return None
    found.__cause__ = error
    if disappointed:
        found = _as_expected(found)
    if kept:
        kept[0] = _raised(found)
    return found


def _first_finding(watching: list[Recorder], error: BaseException | None) -> BaseException | None:
    """The finding of the first handle that has one; shared handles after it are asked again after the next test."""
    for recorder in watching:
        found = recorder.handle.to_raise(error) if recorder.own else recorder.handle.look()
        if found is not None:
            return found
    return None


def _is_unexpected_success(item: pytest.Item, error: BaseException) -> bool:
    """Whether a test marked ``unittest.expectedFailure`` passed: the failure that it expects may be a violation."""
    marks = (getattr(item, name, None) for name in ("obj", "cls"))
    expecting = any(getattr(mark, "__unittest_expecting_failure__", False) for mark in marks)
    return expecting and type(error) is pytest.fail.Exception


def _as_expected(found: BaseException) -> BaseException:
    outcome = pytest.xfail.Exception(f"{type(found).__name__}: {found}")
    outcome.__cause__ = found
    return outcome


def _raised(error: BaseException) -> pytest.ExceptionInfo[BaseException]:
    __tracebackhide__ = True
    try:
        raise error
    except BaseException:  # noqa: BLE001 - any exception may be passed in
        return pytest.ExceptionInfo.from_current()


class _CallPhase:
    """The judge that the plugin's hooks call (:class:`~pytest_claude_tokens.plugin.session.Judge`)."""

    def judge(self, item: pytest.Item, error: BaseException | None) -> BaseException | None:
        return judge(item, error)

    def tell(self, item: pytest.Item, error: BaseException | None, made: pytest.TestReport) -> None:
        reporting.tell(item, error, made)
