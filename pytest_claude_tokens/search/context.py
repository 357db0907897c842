"""The settings that a pytest run hands to an explored test; outside of pytest, the defaults apply.

A module of its own, without heavy imports, so that the plugin can set the context without importing the search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CONTEXT", "ExplorationContext", "Report"]


@dataclass(slots=True, kw_only=True)
class Report:
    """How much one explored test was searched.

    ``drawn``: the schedules that were drawn independently of each other, or all where none was; ``seen_once``: the
    histories that one of them has shown and no other schedule has. ``races``: how many pairs of requests about one
    token there were, of different workers, and ``both_ways``: how many of them in both orders; ``races`` is ``None``
    where there was one worker.
    ``bound``: that of a systematic search. ``slow``: the seconds by which workers and replies were held up at most;
    ``None`` where nothing in the body waited for time to pass. ``unscheduled``: how many requests each client sent that
    were answered and not scheduled. ``ran_out``: how many schedules a time-out of the body's own ended, while the
    search held something up.
    """

    schedules: int = 0
    histories: int = 0
    drawn: int = 0
    seen_once: int = 0
    races: int | None = None
    both_ways: int = 0
    bound: int | None = None
    slow: float | None = None
    unscheduled: Mapping[str, int] = field(default_factory=dict)
    ran_out: int = 0

    def text(self) -> str:
        """The report in words, for pytest's summary."""
        from pytest_claude_tokens.judge.wording import count

        schedules = count(self.schedules, "schedule")
        histories = count(self.histories, "distinct history", "distinct histories")
        further = f"{self._races()}{self._delays()}{self._left_out()}"
        if self.bound is not None:
            return f"{schedules}, {histories}: all with at most {count(self.bound, 'deviation')}{further}"
        return f"{schedules}, {histories}, next new {self._next_new()}{further}"

    def _next_new(self) -> str:
        """Good-Turing: the chance that one more schedule, drawn like the others, shows a history not yet seen."""
        return f"{self.seen_once / self.drawn if self.drawn else 1.0:.0%}"

    def _races(self) -> str:
        if self.races is None:
            return ""
        from pytest_claude_tokens.judge.wording import count

        return f", {self.both_ways} of {count(self.races, 'race')} both ways" if self.races else ", no race"

    def _left_out(self) -> str:
        from pytest_claude_tokens.judge.wording import count

        sent = (f"{count(number, 'request')} of {client}" for client, number in sorted(self.unscheduled.items()))
        return f"\n    not scheduled: {', '.join(sent)}" if self.unscheduled else ""

    def _delays(self) -> str:
        if self.slow is None:
            return ""
        over = f" ({self.ran_out} ended by time-outs)" if self.ran_out else ""
        return f", delays up to {self.slow:g} s{over}" if self.slow else ", no delays"


@dataclass(slots=True, kw_only=True)
class ExplorationContext:
    """The running test's settings.

    ``handle``: keywords for each handle. ``full``: errors keep all their frames. ``command``: the shell command that
    runs this test again. ``starting`` is called before each run of the body, ``reported`` with the report, ``failed``
    with the evidence of a failure before it is raised, and ``progress`` after each schedule with the numbers of
    schedules and of distinct histories. ``passed``, if there is one, is called with the history of the last run where
    none has failed.
    """

    handle: Mapping[str, Any] = field(default_factory=dict)
    examples: int | None = None
    seed: int | None = None
    replay: str | None = None
    full: bool = False
    command: str = "pytest"
    starting: Callable[[], object] = lambda: None
    reported: Callable[[Report], None] = lambda report: None
    failed: Callable[[Any], None] = lambda evidence: None
    progress: Callable[[int, int], object] = lambda schedules, histories: None
    passed: Callable[[Any], None] | None = None


CONTEXT: ContextVar[ExplorationContext | None] = ContextVar("claude_tokens_exploration", default=None)
