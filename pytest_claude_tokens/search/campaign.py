"""The two gears of a search, and what it counts.

Gear one finds: it feeds random bytes to the property, without the engine's bookkeeping. Gear two is an ordinary
Hypothesis run: it replays what the example database holds, generates a share of the schedules itself, shrinks the
arguments and reports. The schedule itself is made shorter by :mod:`pytest_claude_tokens.search.shrink`.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import HealthCheck, Phase, core, given, settings
from hypothesis.control import current_build_context
from hypothesis.database import ExampleDatabase, InMemoryExampleDatabase, choices_from_bytes, choices_to_bytes
from hypothesis.errors import DidNotReproduce, HypothesisException, InvalidArgument, UnsatisfiedAssumption
from hypothesis.internal import entropy
from hypothesis.internal.conjecture.data import Status
from hypothesis.internal.reflection import function_digest
from hypothesis.reporting import with_reporter

from pytest_claude_tokens.judge.violations import Unknown
from pytest_claude_tokens.search.context import Report
from pytest_claude_tokens.search.strategy import IntegerSource
from pytest_claude_tokens.simulation.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from pytest_claude_tokens.runs.outcome import Outcome

__all__ = ["SCHEDULE", "Campaign", "Failure"]

SCHEDULE = "claude_tokens_schedule"
"""The name under which the schedule is drawn, beside the test's own arguments."""
_BYTES = 2048
_TRIES = 5
_SEED = "_hypothesis_internal_use_seed"
_BLOB = "_hypothesis_internal_use_reproduce_failure"
_EXAMPLES = "hypothesis_explicit_examples"
_UNSHRUNK = b".secondary"
"""What Hypothesis adds to a key for failures that may become smaller."""


class _Enough(BaseException):
    """Ends a search at once: Hypothesis lets it through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A run that failed, and where its arguments came from: Hypothesis's ``choices``, or explicit ``example`` n (1 …).

    ``told``: the arguments as they were before the run, for people.
    """

    outcome: Outcome
    choices: bytes = b""
    example: int = 0
    told: Mapping[str, str] = field(default_factory=dict)


class Campaign:
    """One search of one property. ``execute(schedule, arguments)`` is one run; it never raises the body's errors.

    ``strategies`` are in the order of the body's arguments. What is not ``repeatable`` is not shrunk by Hypothesis,
    which would take a run that goes another way for flaky.
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
        self._examples: list[tuple[Schedule, Mapping[str, Any]]] = []
        self._drawn: Any = drawn
        self._batch: Callable[[], None] | None = None
        self.test = self._property(drawn, identity)
        self._key = function_digest(self.test.hypothesis.inner_test)
        """Of the example database."""
        self.reset()

    def reset(self) -> None:
        """Forget what was counted, for one more search."""
        self.seen: Counter[int] = Counter()
        self.schedules = 0
        self.raced = False
        self.failed: Failure | None = None
        self.found_at = 0
        self._forced: Schedule | None = None
        self._last: Failure | None = None
        self._ended: BaseException | None = None

    def _property(self, drawn: SearchStrategy[Schedule], identity: str) -> Any:
        def explored(claude_tokens_schedule: Schedule, **arguments: Any) -> None:
            __tracebackhide__ = True
            if self._batch is not None:
                self._batch()
                return
            schedule = claude_tokens_schedule if self._forced is None else self._forced
            told = {name: repr(value) for name, value in arguments.items()}
            outcome = self._run(schedule, arguments)
            error = outcome.error
            if self._forced is not None:
                self._last = Failure(outcome=outcome, choices=self._choices(), told=told)
                return
            self.count(outcome)
            if error is None:
                return
            if not isinstance(error, UnsatisfiedAssumption):
                example = next((n for n, (stock, _) in enumerate(self._examples, 1) if stock is schedule), 0)
                self.failed = Failure(outcome=outcome, choices=self._choices(), example=example, told=told)
                if isinstance(error, Unknown) or not self._repeatable:
                    raise _Enough
            raise error

        # The example database files a test under the digest of its function: these must not all be one.
        explored._hypothesis_internal_add_digest = identity.encode()  # type: ignore[attr-defined]
        return given(claude_tokens_schedule=drawn, **self._strategies)(explored)

    def _run(self, schedule: Schedule, arguments: Mapping[str, Any]) -> Outcome:
        try:
            return self._execute(schedule, arguments)
        except _endings() as ended:
            self._ended = ended
            raise _Enough from None

    def count(self, outcome: Outcome) -> None:
        """Take a run into the statistics, unless its own assumptions gave it up."""
        if isinstance(outcome.error, UnsatisfiedAssumption):
            return
        self.schedules += 1
        self.seen[outcome.fingerprint()] += 1
        if outcome.error is not None and not self.found_at:
            self.found_at = self.schedules  # what comes after it makes the failure smaller
        self.raced = self.raced or outcome.raced

    def fails(self, outcome: Outcome) -> bool:
        """Count a run of a search that draws nothing, and keep it where it failed."""
        self.count(outcome)
        self.failed = None if outcome.error is None else Failure(outcome=outcome)
        return self.failed is not None

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
        self.read_marks(marks)
        if seed is None:
            seed = getattr(marks, _SEED, None)
        setattr(self.test, _SEED, seed)
        setattr(self.test, _BLOB, getattr(marks, _BLOB, None))
        total = base.max_examples
        share = total if Phase.generate not in base.phases else max(1, total // 10)
        phases = [phase for phase in base.phases if phase not in (Phase.target, Phase.explain)]
        self._use(base, max_examples=share, phases=phases, database=base.database)
        if not self._engine():
            if not self._repeatable:  # the search has ended at once, and Hypothesis has kept nothing
                self._keep(base.database, _UNSHRUNK)
            return False
        if Phase.generate not in base.phases or getattr(marks, _BLOB, None) is not None:
            return True
        self._use(base, max_examples=share, phases=[Phase.reuse, Phase.shrink], database=None)
        if self._fuzz(total - self.schedules, seed, base.derandomize):
            return True
        before = self.failed
        assert before is not None
        if self._repeatable and not isinstance(before.outcome.error, Unknown) and Phase.shrink in base.phases:
            self._shrink(before, base)
        self._keep(base.database)
        return False

    def _shrink(self, found: Failure, base: settings) -> None:
        """Let Hypothesis make ``found`` smaller, from a database of its own: the user's may not be one to write to."""
        database = InMemoryExampleDatabase()
        database.save(self._key + _UNSHRUNK, found.choices)
        self._use(base, phases=[Phase.reuse, Phase.shrink], database=database)
        self.test._hypothesis_internal_database_key = self._key  # with --hypothesis-seed it would not look there
        try:
            self._engine()
        finally:
            del self.test._hypothesis_internal_database_key
        self.failed = self.failed or found

    def _keep(self, database: ExampleDatabase | None, where: bytes = b"") -> None:
        """Let the next run begin with what failed now; an explicit example is always tried."""
        if database is None or core.global_force_seed is not None:  # as Hypothesis has it
            return
        if self.failed is not None and not self.failed.example:
            database.save(self._key + where, self.failed.choices)

    def read_marks(self, marks: Any) -> None:
        """Take over the explicit examples, in the order in which they stand; each gets default order.

        Raises ``InvalidArgument`` for one that doesn't name the test's own arguments.
        """
        examples = [_named(example, list(self._strategies)) for example in getattr(marks, _EXAMPLES, ())]
        self._examples = [(Schedule(), example.kwargs) for example in reversed(examples)]
        setattr(
            self.test,
            _EXAMPLES,
            [
                core.Example(
                    (), {SCHEDULE: stock, **_copied(example.kwargs)}, raises=example.raises, reason=example.reason
                )
                for example, (stock, _) in zip(examples, reversed(self._examples), strict=True)
            ],
        )

    def replay(self, schedule: Schedule, choices: bytes, example: int, base: settings) -> None:
        """Run ``schedule`` with the arguments behind ``choices`` or those of an explicit example; once is enough.

        What is not repeatable is tried a few times until it fails. Raises ``DidNotReproduce`` where there are no such
        arguments any more.
        """
        for _ in range(1 if self._repeatable else _TRIES):
            again = self.again(schedule, choices, example, base)
            self.count(again.outcome)
            if again.outcome.error is not None:
                self.failed = again
                return

    def again(self, schedule: Schedule, choices: bytes, example: int, base: settings) -> Failure:
        """Run ``schedule`` with the arguments of a failure, drawn anew: the body may have changed those it had.

        Counts nothing. Raises ``DidNotReproduce`` where they can't be drawn.
        """
        if example > len(self._examples):
            raise DidNotReproduce(f"there is no @example number {example} any more")
        if not self._strategies or example:
            kept = self._examples[example - 1][1] if example else {}
            told = {name: repr(value) for name, value in kept.items()}
            outcome = self._execute(schedule, _copied(kept))
            return Failure(outcome=outcome, choices=choices, example=example, told=told)
        blob = core.encode_failure(choices_from_bytes(choices) or ())
        before = getattr(self.test, _BLOB), self.test._hypothesis_internal_use_settings
        setattr(self.test, _BLOB, (hypothesis.__version__, blob))
        self._use(base, phases=[Phase.reuse], database=None)
        self._forced, self._last = schedule, None
        try:
            with suppress(DidNotReproduce):
                self._call(self.test)
        finally:
            self._forced = None
            setattr(self.test, _BLOB, before[0])
            self.test._hypothesis_internal_use_settings = before[1]
        if self._last is None:
            raise DidNotReproduce("the strategies can't draw the arguments of this failure any more")
        return self._last

    def _use(self, base: settings, **changes: Any) -> None:
        checks = {*base.suppress_health_check, HealthCheck.too_slow}
        self.test._hypothesis_internal_use_settings = settings(
            base, deadline=None, report_multiple_bugs=False, suppress_health_check=list(checks), **changes
        )

    def _engine(self) -> bool:
        """An ordinary Hypothesis run: did it pass? Its own complaints (an unsatisfiable strategy …) are raised."""
        self.failed = None
        try:
            self._call(self.test)
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
            failure = self.failed.outcome.error
            if notes and failure is not None:
                failure.__notes__ = notes
            return False
        self.failed = None  # an explicit example may have failed as it was expected to
        return True

    def _call(self, test: Callable[[], object]) -> None:
        """Let Hypothesis run, without its reports; what ends a search is raised as it is."""
        try:
            with with_reporter(lambda _: None):
                test()
        except _Enough:
            if self._ended is not None:
                raise self._ended from None
            raise

    def _fuzz(self, number: int, seed: int | None, derandomize: bool) -> bool:
        """Gear one: ``number`` schedules from a generator; whether all of them passed."""
        if seed is None:
            seed = core.global_force_seed
        if seed is None and derandomize:
            seed = int.from_bytes(self._key[:8], "big")
        source = random.Random(random.SystemRandom().getrandbits(64) if seed is None else seed)
        run = self.test.hypothesis.fuzz_one_input
        until = self.schedules + number
        wasted = 0

        def batch() -> None:
            nonlocal wasted
            wasted += self._roll(source, until, 11 * number)

        if number > 0 and not self._strategies and self._repeatable and self._drawn.of_integers:
            self._batch = batch  # all in one call of Hypothesis's, which takes half as long as a run of the body
        while self.schedules < until and wasted < 10 * number:
            before = self.schedules
            try:
                self._call(lambda: run(source.randbytes(_BYTES)))
            except BaseException:
                if self.failed is None:
                    raise
                return False
            finally:
                self._batch = None
            wasted += self.schedules == before
        return True

    def _roll(self, source: random.Random, until: int, most: int) -> int:
        """Run ``most`` schedules, or until so many have been counted in all, or one fails. Returns how many weren't."""
        data, before, tried = current_build_context().data, self.schedules, 0
        while tried < most and self.schedules < until and not _other_generators():
            tried += 1
            dice = IntegerSource(source)
            outcome = self._run(self._drawn.do_draw(dice), {})
            data.target_observations.clear()  # in one example hypothesis.target() takes each label once
            self.count(outcome)
            if outcome.error is not None and not isinstance(outcome.error, UnsatisfiedAssumption):
                self.failed = Failure(outcome=outcome, choices=choices_to_bytes(dice.choices))
                raise _Enough
        return tried - (self.schedules - before)

    def _choices(self) -> bytes:
        data = current_build_context().data
        return b"" if data.status is Status.INVALID else choices_to_bytes(data.choices)


def _other_generators() -> bool:
    """Whether Hypothesis has to seed more than :mod:`random`, which each run seeds by itself, and one of its own."""
    known = (random, getattr(core.threadlocal, "_hypothesis_global_random", None))
    return "numpy" in sys.modules or any(one not in known for one in entropy.RANDOMS_TO_MANAGE.values())


def _endings() -> tuple[type[BaseException], ...]:
    """What ends a search, and Hypothesis would try to make smaller: a time-out, an expected failure, an exit."""
    return tuple(kind for kind in core.failure_exceptions_to_catch() if not issubclass(kind, Exception))


def _named(example: Any, names: Sequence[str]) -> Any:
    """``@example`` with names for what it gives by position: as always, from the last argument backwards."""
    given = dict(example.kwargs)
    if example.args and len(example.args) <= len(names):
        given = dict(zip(names[-len(example.args) :], example.args, strict=True))
    if set(given) != set(names):
        words = [*map(repr, example.args), *(f"{name}={value!r}" for name, value in example.kwargs.items())]
        wanted = ", ".join(f"{name}=…" for name in names)
        raise InvalidArgument(
            f"@example({', '.join(words)}): it names each of the test's strategies, as in @example({wanted}), and "
            f"runs in default order"
            if names
            else f"@example({', '.join(words)}): this test has no strategies; default order is always tried"
        )
    return core.Example((), given, raises=example.raises, reason=example.reason)


def _copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an explicit example, for one run: the next one finds them as they were."""
    copies = {}
    for name, value in arguments.items():
        try:
            copies[name] = deepcopy(value)
        except Exception:
            copies[name] = value
    return copies
