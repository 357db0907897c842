"""Counts of one search: schedules, distinct histories, and the first failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis.errors import UnsatisfiedAssumption

from pytest_claude_tokens.judge.earning import Missed, Refusals, missed, refusals
from pytest_claude_tokens.search.context import Report

if TYPE_CHECKING:
    from pytest_claude_tokens.runs.outcome import Outcome

__all__ = ["Failure", "Tally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A run that failed, and the source of its arguments: Hypothesis's ``choices``, or ``example`` number n (from 1).

    ``arguments``: the ``repr`` of their values, taken before the run.
    """

    outcome: Outcome
    choices: bytes = b""
    example: int = 0
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """The counts. ``raced``: in at least one schedule, a judged request was open during another worker's job;
    ``found_at``: the number of the first schedule that failed, 0 as long as none has; ``refused``: what the guard and
    the service's network refused; ``missed``: requests that could not be judged, as long as nothing has raced.
    """

    schedules: int = 0
    raced: bool = False
    found_at: int = 0
    refused: Refusals = field(default_factory=Counter)
    missed: Missed = field(default_factory=Counter)
    _seen: Counter[int] = field(default_factory=Counter)

    def count(self, outcome: Outcome) -> bool:
        """Count a run; returns whether it failed.

        A run that its own assumptions rejected (``hypothesis.assume``) is neither counted nor a failure.
        """
        if isinstance(outcome.error, UnsatisfiedAssumption):
            return False
        self.schedules += 1
        self._seen[outcome.fingerprint()] += 1
        self.raced = self.raced or outcome.raced
        if not self.raced:
            self.missed.update(missed(outcome.history))
        if refused := outcome.history.noted("refused"):
            self.refused.update(refusals(refused))
        if outcome.error is None:
            return False
        if not self.found_at:
            self.found_at = self.schedules  # later runs only shrink the failure
        return True

    def report(self, bound: int | None = None) -> Report:
        """The counts so far as a report; ``bound``: the bound of a systematic search."""
        once = sum(1 for number in self._seen.values() if number == 1)
        return Report(schedules=self.schedules, histories=len(self._seen), seen_once=once, bound=bound)
