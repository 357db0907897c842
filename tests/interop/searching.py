"""Runs an explored test as pytest would, and says what came of it."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

from hypothesis import settings

from pytest_claude_tokens.search.context import CONTEXT, ExplorationContext, Report
from pytest_claude_tokens.violations import Violation

SCHEDULES = 25
few = settings(max_examples=SCHEDULES, database=None, derandomize=True)


def searched(test: Any, replay: str | None = None, **handle: Any) -> tuple[BaseException | None, Report]:
    """How the search ended, and how hard it looked. ``handle``: what a marker would say."""
    reports: list[Report] = []

    def run() -> BaseException | None:
        CONTEXT.set(ExplorationContext(handle=handle, replay=replay, reported=reports.append))
        try:
            test()
        except Exception as error:
            return error
        return None

    return copy_context().run(run), reports[-1]


def caught(test: Any, violation: type[Violation], **handle: Any) -> None:
    """The search finds that violation, and its replay token shows the same one again."""
    error, _ = searched(test, **handle)
    assert error is not None
    assert type(error) is violation, repr(error)
    found: Any = vars(error)["claude_tokens_found"]
    assert found.replayed == (3, 3)
    again, _ = searched(test, found.token, **handle)
    assert (type(again), str(again)) == (violation, str(error))


def spared(test: Any, **handle: Any) -> Report:
    """The search finds nothing, after all the schedules that it was to try."""
    error, report = searched(test, **handle)
    if error is not None:
        raise error
    assert report.schedules == SCHEDULES
    return report
