"""What an explored test needs to know of the pytest run around it; without one, the defaults.

A module of its own, without heavy imports, so that the plugin can set it before anything is explored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CONTEXT", "ExplorationContext", "Report"]


@dataclass(slots=True, kw_only=True)
class Report:
    """How hard one explored test was looked at. ``seen_once``: histories that came up in one schedule only."""

    schedules: int = 0
    histories: int = 0
    seen_once: int = 0
    bound: int | None = None

    def text(self) -> str:
        """The summary's words for it."""
        from pytest_claude_tokens.judge.wording import count

        schedules = count(self.schedules, "schedule")
        histories = count(self.histories, "distinct history", "distinct histories")
        if self.bound is not None:
            return f"{schedules}, {histories}: all with at most {count(self.bound, 'deviation')}"
        # Good-Turing: the chance that the next schedule shows a history not yet seen.
        chance = self.seen_once / self.schedules if self.schedules else 1.0
        return f"{schedules}, {histories}, next new {chance:.0%}"


@dataclass(slots=True, kw_only=True)
class ExplorationContext:
    """The running test's settings.

    ``handle``: keywords for each handle. ``command``: how to run this test again. ``reported`` is told how hard it was
    looked, and ``failed`` gets the evidence before anything is raised.
    """

    handle: Mapping[str, Any] = field(default_factory=dict)
    examples: int | None = None
    seed: int | None = None
    replay: str | None = None
    command: str = "pytest"
    reported: Callable[[Report], None] = lambda report: None
    failed: Callable[[Any], None] = lambda evidence: None


CONTEXT: ContextVar[ExplorationContext | None] = ContextVar("claude_tokens_exploration", default=None)
