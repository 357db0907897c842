"""Runs an explored test as pytest would, and says what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import seed as seeded
from hypothesis import settings

from pytest_claude_tokens.search.context import ExplorationContext, Report
from tests.zoo.common import Body, Pair
from tests.zoo.outside import error_of
from tests.zoo.table import explored


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search came to. ``found`` is what it knows of the failure, if ``error`` came out of a schedule."""

    report: Report
    error: BaseException | None

    @property
    def found(self) -> Any:
        return getattr(self.error, "claude_tokens_found", None)

    @property
    def example(self) -> int:
        """The number of the schedule that failed."""
        return int(self.found.example)


def search(
    pair: Pair, body: Body, *, schedules: int | None = None, seed: int | None = None, replay: str | None = None
) -> Search:
    """Explore one body of a pair. With a ``seed`` (or none) the same schedules are drawn each time."""
    test = settings(max_examples=schedules or pair.schedules, database=None, derandomize=seed is None)(
        explored(pair, body)
    )
    if seed is not None:
        test = seeded(seed)(test)
    reports: list[Report] = []
    context = ExplorationContext(handle=pair.handle, seed=seed, replay=replay, reported=reports.append)
    error = error_of(test, context)
    return Search(report=reports[-1] if reports else Report(), error=error)
