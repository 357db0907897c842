"""The two gears of a search, and what it counts.

Gear one finds: it feeds random bytes to the property, without the engine's bookkeeping. Gear two is an ordinary
Hypothesis run: it replays what the example database holds, generates a share of the schedules itself, shrinks the
arguments and reports. The schedule itself is made shorter by :mod:`pytest_claude_tokens.simulation.polish`.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import HealthCheck, Phase, core, given, settings
from hypothesis.control import current_build_context
from hypothesis.database import InMemoryExampleDatabase, choices_from_bytes, choices_to_bytes
from hypothesis.errors import DidNotReproduce, HypothesisException, UnsatisfiedAssumption
from hypothesis.internal.conjecture.data import Status
from hypothesis.internal.reflection import function_digest
from hypothesis.reporting import with_reporter

from pytest_claude_tokens.context import Report
from pytest_claude_tokens.simulation.schedule import STOCK, Schedule
from pytest_claude_tokens.violations import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis.strategies import SearchStrategy

    from pytest_claude_tokens.simulation.outcome import Outcome

__all__ = ["SCHEDULE", "Campaign"]

SCHEDULE = "schedule"
"""The name under which the schedule is drawn, beside the test's own arguments."""
_BYTES = 2048
_MARKS = ("_hypothesis_internal_use_seed", "_hypothesis_internal_use_reproduce_failure", "hypothesis_explicit_examples")


class _Enough(BaseException):
    """Ends a search at once: Hypothesis lets it through."""


class Campaign:
    """One search of one property. ``execute(schedule, arguments)`` is one run; it never raises the body's errors.

    What is not ``repeatable`` is not shrunk by Hypothesis, which would take a run that goes another way for flaky.
    """

    def __init__(
        self,
        execute: Callable[[Schedule, Mapping[str, Any]], Outcome],
        drawn: SearchStrategy[Schedule],
        strategies: Mapping[str, SearchStrategy[Any]],
        identity: str,
        *,
        repeatable: bool = True,
    ) -> None:
        self._execute = execute
        self._repeatable = repeatable
        self._strategies = dict(strategies)
        self.test = self._property(drawn, identity)
        self.reset()

    def reset(self) -> None:
        """Forget what was counted, for one more search."""
        self.seen: Counter[int] = Counter()
        self.schedules = 0
        self.raced = False
        self.failed: tuple[Outcome, dict[str, Any], bytes] | None = None
        self.found_at = 0
        self.forced: Schedule | None = None

    def _property(self, drawn: SearchStrategy[Schedule], identity: str) -> Any:
        def explored(schedule: Schedule, **arguments: Any) -> None:
            __tracebackhide__ = True
            chosen = schedule if self.forced is None else self.forced
            outcome = self._execute(chosen, arguments)
            self.count(outcome)
            if outcome.error is not None and (isinstance(outcome.error, Unknown) or not self._repeatable):
                self.failed = (outcome, arguments, self._choices())
                raise _Enough
            if outcome.error is not None:
                if not isinstance(outcome.error, UnsatisfiedAssumption):
                    self.failed = (outcome, arguments, self._choices())
                raise outcome.error

        # The example database files a test under the digest of its function: these must not all be one.
        explored._hypothesis_internal_add_digest = identity.encode()  # type: ignore[attr-defined]
        return given(schedule=drawn, **self._strategies)(explored)

    def count(self, outcome: Outcome) -> None:
        """Take a run into the statistics."""
        self.schedules += 1
        self.seen[outcome.fingerprint()] += 1
        if outcome.error is not None and not self.found_at and not isinstance(outcome.error, UnsatisfiedAssumption):
            self.found_at = self.schedules  # what comes after it makes the failure smaller
        self.raced = self.raced or outcome.raced

    def report(self, bound: int | None = None) -> Report:
        """How hard it looked so far."""
        once = sum(1 for number in self.seen.values() if number == 1)
        return Report(
            schedules=self.schedules,
            histories=len(self.seen),
            seen_once=once,
            bound=bound,
            found=self.failed is not None,
        )

    def search(self, base: settings, marks: Any, seed: int | None) -> bool:
        """Both gears. ``False`` where something failed; ``failed`` is then the simplest that Hypothesis came to."""
        for name in _MARKS:
            if hasattr(marks, name):
                setattr(
                    self.test, name, _with_stock(getattr(marks, name)) if "examples" in name else getattr(marks, name)
                )
        total = base.max_examples
        share = total if Phase.generate not in base.phases else max(1, total // 10)
        database = base.database if base.database is not None else InMemoryExampleDatabase()
        phases = [phase for phase in base.phases if phase not in (Phase.target, Phase.explain)]
        self._use(base, max_examples=share, phases=phases, database=base.database)
        if not self._engine():
            return False
        if Phase.generate not in base.phases or hasattr(marks, _MARKS[1]):
            return True
        self._use(base, max_examples=share, phases=[Phase.reuse, Phase.shrink], database=database)
        if self._fuzz(total - self.schedules, seed, base.derandomize):
            return True
        before = self.failed
        shrinks = self._repeatable and before is not None and not isinstance(before[0].error, Unknown)
        if shrinks and Phase.shrink in base.phases:
            self._engine()
        self.failed = self.failed or before
        return False

    def replay(self, schedule: Schedule, choices: bytes, base: settings) -> None:
        """Run ``schedule`` once, with the arguments behind ``choices``."""
        self.forced = schedule
        if not self._strategies:
            outcome = self._execute(schedule, {})
            self.count(outcome)
            self.failed = (outcome, {}, b"") if outcome.error is not None else None
            return
        decoded = choices_from_bytes(choices) or ()
        self.test._hypothesis_internal_use_reproduce_failure = (hypothesis.__version__, core.encode_failure(decoded))
        self._use(base, max_examples=1, phases=base.phases, database=None)
        try:
            self._engine()
        except DidNotReproduce:
            self.failed = None

    def _use(self, base: settings, **changes: Any) -> None:
        self.test._hypothesis_internal_use_settings = settings(
            base, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck), **changes
        )

    def _engine(self) -> bool:
        """An ordinary Hypothesis run: did it pass? Its own complaints (an unsatisfiable strategy …) are raised."""
        self.failed = None
        try:
            with with_reporter(lambda _: None):
                self.test()
        except HypothesisException as error:
            if self.failed is None or isinstance(error, DidNotReproduce):
                raise
            return False
        except _Enough:
            return False
        except BaseException as error:
            if self.failed is None:
                raise
            notes = [note for note in getattr(error, "__notes__", ()) if "reproduce_failure" in note]
            failure = self.failed[0].error
            if notes and failure is not None:
                failure.__notes__ = notes
            return False
        return True

    def _fuzz(self, number: int, seed: int | None, derandomize: bool) -> bool:
        """Gear one: ``number`` schedules from random bytes; whether all of them passed."""
        if seed is None:
            seed = getattr(self.test, _MARKS[0], core.global_force_seed)
        if seed is None and derandomize:
            seed = int.from_bytes(function_digest(self.test.hypothesis.inner_test)[:8], "big")
        source = random.Random(random.SystemRandom().getrandbits(64) if seed is None else seed)
        run = self.test.hypothesis.fuzz_one_input
        until = self.schedules + number
        wasted = 0
        while self.schedules < until and wasted < 10 * number:
            before = self.schedules
            try:
                run(source.randbytes(_BYTES))
            except (Exception, _Enough):
                if self.failed is None:
                    raise
                return False
            wasted += self.schedules == before
        return True

    def _choices(self) -> bytes:
        if not self._strategies:
            return b""
        data = current_build_context().data
        return b"" if data.status is Status.INVALID else choices_to_bytes(data.choices)


def _with_stock(examples: Any) -> Any:
    """``@example`` names the test's own arguments only; the schedule is stock order."""
    return [
        core.Example(e.args, {SCHEDULE: STOCK, **e.kwargs}, raises=e.raises, reason=e.reason) if not e.args else e
        for e in examples
    ]
