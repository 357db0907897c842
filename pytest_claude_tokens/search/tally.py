"""Counts of one search: schedules, distinct histories, and the first failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hypothesis.errors import UnsatisfiedAssumption

from pytest_claude_tokens.judge.earning import Missed, Refusals, missed, refusals
from pytest_claude_tokens.judge.violations import RefreshStorm
from pytest_claude_tokens.search.context import Report
from pytest_claude_tokens.search.races import Races

if TYPE_CHECKING:
    from pytest_claude_tokens.runs.outcome import Outcome

__all__ = ["Failure", "Tally", "surfaced"]

_PATIENCE = 200
"""Schedules for which a search goes on after a needless refresh, to look for something worse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A run that failed, and the source of its arguments: Hypothesis's ``choices``, or ``example`` number n (from 1).

    ``arguments``: the ``repr`` of their values, taken before the run.
    """

    outcome: Outcome
    choices: bytes = b""
    example: int = 0
    arguments: Mapping[str, str] = field(default_factory=dict)


def surfaced(outcome: Outcome) -> Outcome:
    """The outcome with its mild finding as its error."""
    return replace(outcome, error=outcome.mild) if outcome.error is None else outcome


@dataclass(slots=True)
class Tally:
    """The counts. ``raced``: in at least one schedule, a judged request was open during another worker's job;
    ``found_at``: the number of the first schedule that failed, 0 as long as none has; ``refused``: what the guard and
    the service's network refused; ``missed``: requests that could not be judged, as long as nothing has raced;
    ``postponed``: the first mild finding, which the search raises if it finds nothing worse;
    ``unscheduled``: requests over real sockets, by client;
    ``timed``: in at least one schedule, the body waited for time to pass; ``drawn``: how many schedules were drawn,
    whatever others had shown; ``trouble``: why the failure is not in the example database; ``progress`` is told the
    numbers of schedules and of histories after each. ``ran_out``: the runs that a time-out of the body's own ended.
    """

    schedules: int = 0
    raced: bool = False
    timed: bool = False
    drawn: int = 0
    races: Races = field(default_factory=Races)
    found_at: int = 0
    refused: Refusals = field(default_factory=Counter)
    missed: Missed = field(default_factory=Counter)
    unscheduled: Counter[str] = field(default_factory=Counter)
    postponed: Failure | None = None
    ran_out: int = 0
    trouble: str = ""
    progress: Callable[[int, int], object] = lambda schedules, histories: None
    _postponed_at: int = 0
    _seen: Counter[int] = field(default_factory=Counter)
    _drawn: set[int] = field(default_factory=set)

    def count(self, outcome: Outcome, failure: Callable[[], Failure] | None = None, *, drawn: bool = False) -> bool:
        """Count a run; returns whether it failed. ``failure`` makes a failure of it, for a mild finding. ``drawn``: its
        schedule was.

        A run that its own assumptions rejected (``hypothesis.assume``) is neither counted nor a failure.
        """
        if isinstance(outcome.error, UnsatisfiedAssumption):
            return False
        self.schedules += 1
        fingerprint = outcome.fingerprint()
        if fingerprint not in self._seen:
            self.races.learn(outcome.history)
        self._seen[fingerprint] += 1
        if drawn:
            self.drawn += 1
            self._drawn.add(fingerprint)
        self.progress(self.schedules, len(self._seen))
        self.raced = self.raced or outcome.raced
        self.timed = self.timed or outcome.timed
        self.ran_out += outcome.ran_out
        self.unscheduled.update(outcome.unscheduled)
        if not self.raced:
            self.missed.update(missed(outcome.history))
        if refused := outcome.history.noted("refused"):
            self.refused.update(refusals(refused))
        if outcome.error is None and outcome.mild is not None and failure is not None:
            self._postpone(outcome, failure)
        if outcome.error is None:
            return False
        if not self.found_at:
            self.found_at = self.schedules  # later runs only shrink the failure
        return True

    def _postpone(self, outcome: Outcome, failure: Callable[[], Failure]) -> None:
        """Keep the first mild finding. A needless refresh that is still being found after a while is a failure."""
        if self.postponed is None:
            self.postponed = replace(failure(), outcome=surfaced(outcome))
            self._postponed_at = self.schedules
        elif isinstance(outcome.mild, RefreshStorm) and self.schedules - self._postponed_at >= _PATIENCE:
            outcome.error = outcome.mild

    def best(self) -> Failure | None:
        """What a search raises that has ended without a failure: its first mild finding, if any."""
        if self.postponed is not None:
            self.found_at = self._postponed_at
        return self.postponed

    def report(self, workers: int = 1, bound: int | None = None, slow: float | None = None) -> Report:
        """The counts so far as a report. ``workers``: of the body; ``bound``: that of a systematic search; ``slow``: of
        its delays.
        """
        # A search that ended before it drew any has nothing better than what it began with.
        sample, size = (self._drawn, self.drawn) if self.drawn else (self._seen, self.schedules)
        return Report(
            schedules=self.schedules,
            histories=len(self._seen),
            drawn=size,
            seen_once=sum(self._seen[one] == 1 for one in sample),
            races=self.races.seen if workers > 1 else None,
            both_ways=self.races.both_ways,
            bound=bound,
            slow=slow if self.timed else None,
            unscheduled=dict(self.unscheduled),
            ran_out=self.ran_out,
        )
