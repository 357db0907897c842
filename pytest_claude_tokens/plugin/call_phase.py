"""The check in the call phase.

A violation fails the test that broke something, in its call phase: FAILED, never PASSED and then ERROR. It takes the
place of an error that the body ended with, and is raised from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fake_server.secrecy import told
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
    """Make this module the judge of the session, and guard the real service from now on."""
    guard.allow_real_hosts(options.real_hosts_allowed(config))
    config.stash[session.JUDGE] = _CallPhase()


@discreet_usage
def make(
    request: pytest.FixtureRequest, default: Callable[[], Any], *, own: bool = False, **given: Any
) -> ClaudeTokens:
    """A handle with the settings of the test that runs, and on top of them those that are ``given``.

    ``default`` is asked for the policy where neither they nor a marker name one. ``own``: the handle is of one test,
    and its history ends with that test's body. Raises :class:`pytest.UsageError`.
    """
    __tracebackhide__ = True
    item = session.current(request.config)
    register(request.config)
    recorder = Recorder(request.config, own=own)
    try:
        settings = marker.merge(marker.marked(item), {k: v for k, v in given.items() if v is not None})
        if "policy" not in settings:
            settings = marker.merge(settings, {"policy": default()})
        recorder.handle = ClaudeTokens(**settings, runtime=Runtime(recorder=recorder))
    except ValueError as error:
        raise pytest.UsageError(told(f"{item.nodeid}: {request.fixturename} {error}")) from None
    return recorder.handle


def judge(item: pytest.Item, error: BaseException | None) -> BaseException | None:
    """What the body of ``item``, which ended with ``error``, is to fail with instead; ``None``: it stays as it is."""
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
        if type(error) is pytest.fail.Exception:  # such as a time-out: the report says both
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
    """The finding of the first handle that has one; a shared one not asked now is asked after the next test."""
    for recorder in watching:
        found = recorder.handle.to_raise(error) if recorder.own else recorder.handle.look()
        if found is not None:
            return found
    return None


def _is_unexpected_success(item: pytest.Item, error: BaseException) -> bool:
    """Whether ``unittest.expectedFailure`` was disappointed by the body; what it expects may be a violation."""
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
    except BaseException:  # noqa: BLE001 - it may be any, and is handed on
        return pytest.ExceptionInfo.from_current()


class _CallPhase:
    """The judge that the hooks of the plugin ask (:class:`~pytest_claude_tokens.plugin.session.Judge`)."""

    def judge(self, item: pytest.Item, error: BaseException | None) -> BaseException | None:
        return judge(item, error)

    def tell(self, item: pytest.Item, error: BaseException | None, made: pytest.TestReport) -> None:
        reporting.tell(item, error, made)
