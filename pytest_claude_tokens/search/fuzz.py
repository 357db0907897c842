"""Gear one: schedules from a random number generator, without the bookkeeping of Hypothesis's engine.

Where only the schedule is drawn, many schedules run within one Hypothesis example, as creating an example takes half as
long as running the body. Hypothesis seeds the generators that are registered with it once per example, so this is done
only if ``random`` is the only one: each run seeds that itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.search.hypothesis_engine import (
    choices_of_integers,
    choices_of_this_run,
    forget_targets,
    has_other_generators,
)
from pytest_claude_tokens.search.tally import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from hypothesis import settings

    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.search.hypothesis_engine import Property
    from pytest_claude_tokens.search.strategy import ScheduleStrategy
    from pytest_claude_tokens.search.tally import Tally
    from pytest_claude_tokens.simulation.schedule import Schedule

__all__ = ["Fuzzer"]

_BYTES_PER_EXAMPLE = 2048
"""Random bytes for the schedule and the arguments of one example; an example that needs more is wasted."""
_MOST_WASTED = 10
"""Examples per wanted schedule that may be rejected before the search gives up."""


class Fuzzer:
    """Feeds one property from ``source``. ``execute`` is one run; its outcome is counted in ``tally``.

    ``alone``: the strategy of schedules, if the property draws nothing else.
    """

    def __init__(
        self,
        prop: Property,
        execute: Callable[[Schedule, Mapping[str, Any]], Outcome],
        tally: Tally,
        source: Random,
        *,
        alone: ScheduleStrategy | None,
    ) -> None:
        self._property = prop
        self._execute = execute
        self.tally = tally
        self._source = source
        self._alone = alone
        self._portfolio = None if alone is None else alone.portfolio()

    def search(self, number: int, chosen: settings) -> Failure | None:
        """Run ``number`` schedules; fewer if one fails, or if the test's assumptions reject nearly all."""
        start = self.tally.schedules
        tried = 0
        failed: Failure | None = None

        def one(schedule: Schedule, arguments: Mapping[str, Any]) -> None:
            nonlocal failed
            texts = {name: repr(value) for name, value in arguments.items()}
            outcome = self._execute(schedule, arguments)
            failure = partial(Failure, outcome=outcome, choices=choices_of_this_run(), arguments=texts)
            if self.tally.count(outcome, failure, drawn=True):
                failed = failure()

        def many(_schedule: Schedule, _arguments: Mapping[str, Any]) -> None:
            nonlocal failed, tried
            failed, ran = self._run_many(start + number, (_MOST_WASTED + 1) * number)
            tried += ran - 1

        body = one if self._alone is None else many
        while failed is None and (counted := self.tally.schedules - start) < number:
            if tried - counted >= _MOST_WASTED * number:
                break
            tried += 1
            self._property.fuzz(body, self._source.randbytes(_BYTES_PER_EXAMPLE), chosen)
        return failed

    def _run_many(self, until: int, most: int) -> tuple[Failure | None, int]:
        """Run schedules until the tally has counted ``until`` in all, ``most`` have run, or one has failed.

        Only one, if there are generators which Hypothesis must seed for each. Returns the failure, and the number of
        runs.
        """
        assert self._portfolio is not None
        tried = 0
        while not tried or (tried < most and self.tally.schedules < until and not has_other_generators()):
            tried += 1
            schedule = self._portfolio.next(self._source)
            outcome = self._execute(schedule, {})
            forget_targets()
            failure = partial(self._failure, outcome, schedule)
            if self.tally.count(outcome, failure, drawn=self._portfolio.drew):
                return failure(), tried
            self._portfolio.known.learn(outcome)
        return None, tried

    def _failure(self, outcome: Outcome, schedule: Schedule) -> Failure:
        assert self._alone is not None
        return Failure(outcome=outcome, choices=choices_of_integers(self._alone.written(schedule)))
