"""The two gears of a search.

Gear one finds failures fast: it feeds random bytes to the property, without the engine's bookkeeping. Gear two is an
ordinary Hypothesis run: it replays the example database, generates a share of the schedules itself, shrinks the
arguments and reports. The schedule itself is shrunk by :mod:`pytest_claude_tokens.search.shrink`.
"""

from __future__ import annotations

from asyncio import CancelledError
from functools import partial
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import DidNotReproduce, HypothesisException

from pytest_claude_tokens.report.body_error import headline
from pytest_claude_tokens.report.evidence import notes_of, set_notes
from pytest_claude_tokens.runs.outcome import is_failure
from pytest_claude_tokens.search.examples import Examples
from pytest_claude_tokens.search.fuzz import Fuzzer
from pytest_claude_tokens.search.hypothesis_engine import (
    Property,
    Stop,
    choices_of_this_run,
    failures_to_raise,
    forced_seed,
)
from pytest_claude_tokens.search.tally import Failure, surfaced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.search.hypothesis_engine import Body, Decorations
    from pytest_claude_tokens.search.plan import Plan
    from pytest_claude_tokens.search.tally import Tally
    from pytest_claude_tokens.simulation.schedule import Schedule

__all__ = ["Campaign"]

_REPLAYS_UNTIL_FAILURE = 5
"""Runs of a replay with processes, which may behave differently each time."""


class Campaign:
    """One search of one plan. ``execute(schedule, arguments)`` is one run; it never raises the body's errors.

    ``tally`` counts the runs. ``decorations`` are those of the test, and ``base`` the settings that apply to it. A plan
    that is not repeatable is not shrunk by Hypothesis, which would report a run that behaves differently as flaky.
    """

    def __init__(
        self,
        plan: Plan,
        execute: Callable[[Schedule, Mapping[str, Any]], Outcome],
        tally: Tally,
        decorations: Decorations,
        *,
        base: settings,
        seed: int | None,
    ) -> None:
        self._plan = plan
        self._execute = execute
        self._base = base
        self._seed = decorations.seed if seed is None else seed
        self._blob = decorations.blob
        self._tally = tally
        self._examples = Examples(decorations.examples, list(plan.strategies))
        self._property = Property(plan.schedules, plan.strategies, plan.identity)
        self._property.decorate(self._seed, self._blob, self._examples.scheduled())

    def search(self) -> Failure | None:
        """Run both gears. Returns the simplest failure that Hypothesis found, else a mild finding."""
        return self._both_gears() or self._tally.best()

    def _both_gears(self) -> Failure | None:
        base, total = self._base, self._base.max_examples
        generating = Phase.generate in base.phases
        share = max(1, total // 10) if generating else total
        phases: list[Phase] = [phase for phase in base.phases if phase not in (Phase.target, Phase.explain)]
        drawn_apart = generating and self._plan.lone is not None and self._blob is None
        if drawn_apart:  # by the portfolio, which learns
            phases.remove(Phase.generate)
        ordinary = _relaxed(base, max_examples=share, phases=phases)
        try:
            failed = self._drive(lambda body: self._property.run(body, ordinary))
        except SkipTest:
            if not drawn_apart:
                raise
            failed = None  # there was neither an example nor an earlier failure to begin with
        if failed is not None:
            if not self._plan.repeatable:  # the search ended at once, before Hypothesis could save the failure
                self._keep(failed, shrunk=False)
            return failed
        if not generating or self._blob is not None:
            return None
        found = self._fuzz(total - self._tally.schedules)
        if found is None:
            return None
        if self._plan.repeatable and not found.outcome.stuck and Phase.shrink in base.phases:
            # Where there are no arguments, there is nothing that only Hypothesis could shrink.
            again = [Phase.reuse, Phase.shrink] if self._plan.lone is None else [Phase.reuse]
            failed = self._drive(lambda body: self._property.shrink(body, found.choices, _relaxed(base), again))
        failed = failed or found
        self._keep(failed, shrunk=True)
        return failed

    def replay(self, schedule: Schedule, choices: bytes, example: int) -> Failure | None:
        """Run ``schedule`` once with the arguments behind ``choices`` or those of an explicit example.

        A plan that is not repeatable is tried a few times until it fails. Raises ``DidNotReproduce`` where these
        arguments no longer exist.
        """
        for _ in range(1 if self._plan.repeatable else _REPLAYS_UNTIL_FAILURE):
            again = self.again(schedule, choices, example)
            if self._tally.count(again.outcome):
                return again
        return None

    def again(self, schedule: Schedule, choices: bytes, example: int) -> Failure:
        """Run ``schedule`` with the arguments of a failure, drawn anew: the body may have mutated the first ones.

        The run is not counted. Raises ``DidNotReproduce`` where the arguments can't be drawn.
        """
        if example or not self._plan.strategies:
            arguments = self._examples.arguments(example)
            texts = _texts(arguments)
            outcome = surfaced(self._execute(schedule, arguments))
            return Failure(outcome=outcome, choices=choices, example=example, arguments=texts)
        runs: list[Failure] = []

        def run(_drawn: Schedule, arguments: Mapping[str, Any]) -> None:
            texts = _texts(arguments)
            outcome = surfaced(self._run(schedule, arguments))
            runs.append(Failure(outcome=outcome, choices=choices, arguments=texts))

        self._property.reproduce(run, choices, _relaxed(self._base))
        if not runs:
            raise DidNotReproduce("the strategies can't draw the arguments of this failure any more")
        return runs[0]

    def _drive(self, drive: Callable[[Body], bool]) -> Failure | None:
        """Let Hypothesis run. Returns the last failure, which is the simplest, unless it was expected.

        Hypothesis's own errors (an unsatisfiable strategy …) are raised.
        """
        failed: Failure | None = None

        def body(schedule: Schedule, arguments: Mapping[str, Any]) -> None:
            __tracebackhide__ = True
            nonlocal failed
            texts = _texts(arguments)
            outcome = self._run(schedule, arguments)
            number = self._examples.number(schedule)
            failure = partial(Failure, outcome=outcome, choices=choices_of_this_run(), example=number, arguments=texts)
            if self._tally.count(outcome, failure):
                failed = failure()
                if outcome.stuck or not self._plan.repeatable:
                    raise Stop
            if outcome.error is not None:
                raise _fit_for_hypothesis(outcome.error)

        try:
            passed = drive(body)
        except HypothesisException as error:
            if failed is None or isinstance(error, DidNotReproduce):
                raise
            return failed
        except BaseException as error:
            if failed is None or not is_failure(error):
                raise
            if type(error) not in (type(failed.outcome.error), _Failed):  # Hypothesis saves a failure before it ends
                self._not_kept(error)
            _take_notes(failed.outcome, error)
            return failed
        return None if passed else failed

    def _run(self, schedule: Schedule, arguments: Mapping[str, Any]) -> Outcome:
        """One run within Hypothesis, which must not shrink an exit or a time-out as a failure."""
        try:
            return self._execute(schedule, arguments)
        except failures_to_raise() as error:
            raise Stop(error) from None
        except Exception as error:
            if is_failure(error):
                raise
            raise Stop(error) from None

    def _fuzz(self, number: int) -> Failure | None:
        """Gear one."""
        plan = self._plan
        seed = forced_seed() if self._seed is None else self._seed
        if seed is None and self._base.derandomize:
            seed = int.from_bytes(self._property.key[:8], "big")
        fuzzer = Fuzzer(
            self._property,
            self._run,
            self._tally,
            Random(SystemRandom().getrandbits(64) if seed is None else seed),
            alone=plan.lone,
        )
        return fuzzer.search(number, _relaxed(self._base, database=None))

    def _keep(self, failed: Failure, *, shrunk: bool) -> None:
        """Save the failure in the example database, for the next run to begin with; explicit examples always run.

        A database that takes nothing (a full disk, a service that is down) must not take the finding's place.
        """
        if failed.example:
            return
        try:
            self._property.keep(self._base.database, failed.choices, shrunk=shrunk)
        except Exception as error:
            self._not_kept(error)

    def _not_kept(self, error: BaseException) -> None:
        self._tally.trouble = f"the example database has not kept this failure: {headline(error)}"


def _relaxed(base: settings, **changes: Any) -> settings:
    """``base`` without deadline and with one error per run: a group of errors would hide the violation."""
    checks = {*base.suppress_health_check, HealthCheck.too_slow}
    return settings(base, deadline=None, report_multiple_bugs=False, suppress_health_check=list(checks), **changes)


class _Failed(Exception):
    """Stands for an error that Hypothesis can't carry, while it searches; the outcome of the run has the error."""


def _fit_for_hypothesis(error: BaseException) -> BaseException:
    """``error``, or a stand-in if it is no ``Exception``, or refuses to have a traceback assigned, as contexts do."""
    try:
        error.__traceback__ = error.__traceback__
    except Exception:
        return _Failed()
    return _Failed() if isinstance(error, CancelledError) else error


def _take_notes(outcome: Outcome, raised: BaseException) -> None:
    """Copy Hypothesis's notes, which say how to reproduce a failure, to the run's error."""
    notes = [note for note in notes_of(raised) if "reproduce_failure" in note]
    if notes and outcome.error is not None:
        set_notes(outcome.error, notes)


def _texts(arguments: Mapping[str, Any]) -> dict[str, str]:
    return {name: repr(value) for name, value in arguments.items()}
