"""The one module that uses private names of Hypothesis.

Hypothesis documents its top level, ``strategies``, ``errors``, ``database``'s classes and ``stateful``; any other name
may change with any release, and there is one every few days. Each private name used here has a canary in
``tests/unit/explore/test_hypothesis_engine.py``, which says what the name is for and what to do when it is gone.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import hypothesis
from hypothesis import Phase, configuration, core, given, settings
from hypothesis.control import current_build_context
from hypothesis.database import ExampleDatabase, InMemoryExampleDatabase, choices_from_bytes, choices_to_bytes
from hypothesis.errors import DidNotReproduce
from hypothesis.internal import entropy
from hypothesis.internal.conjecture.data import Status
from hypothesis.internal.reflection import function_digest
from hypothesis.reporting import with_reporter
from hypothesis.strategies import SearchStrategy

from pytest_claude_tokens.simulation.interrupts import calls_foreign_code
from pytest_claude_tokens.simulation.trio_runs import trio_generator

if TYPE_CHECKING:
    from pytest_claude_tokens.simulation.schedule import Schedule

    Body = Callable[[Schedule, Mapping[str, Any]], None]
    DrawInteger = Callable[[int, int], int]
    DrawValue = Callable[[SearchStrategy[Any]], Any]

__all__ = [
    "SCHEDULE",
    "Decorations",
    "ExplicitExample",
    "IntegerStrategy",
    "Property",
    "Stop",
    "choices_of_integers",
    "choices_of_this_run",
    "decorations",
    "failures_to_raise",
    "forced_seed",
    "forget_targets",
    "has_other_generators",
    "storing_in",
]

SCHEDULE = "claude_tokens_schedule"
"""The name under which the schedule is drawn, beside the test's own arguments."""

_SETTINGS = "_hypothesis_internal_use_settings"
_SETTINGS_APPLIED = "_hypothesis_internal_settings_applied"
_SEED = "_hypothesis_internal_use_seed"
_BLOB = "_hypothesis_internal_use_reproduce_failure"
_EXAMPLES = "hypothesis_explicit_examples"
_DIGEST = "_hypothesis_internal_add_digest"
_DATABASE_KEY = "_hypothesis_internal_database_key"
_SECONDARY = b".secondary"
"""Hypothesis's suffix of a test's key, for failures that may still shrink."""

T = TypeVar("T")


class Stop(BaseException):
    """Ends a run of Hypothesis at once: it does not shrink an exception that is not an ``Exception``.

    ``error`` is raised in its place; without one the run ends and nothing is raised.
    """

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error = error


class IntegerStrategy(SearchStrategy[T]):
    """Draws integers directly from the engine, several times faster than a composite of strategies."""

    integers_only: bool
    """Whether :meth:`draw_from` draws only integers, so that any source of integers will do."""

    @abstractmethod
    def draw_from(self, integer: DrawInteger, value: DrawValue | None = None) -> T:
        """One value. ``integer(low, high)`` draws an integer, both ends included.

        ``value(strategy)`` draws a value of any strategy; it may be ``None`` if ``integers_only``.
        """

    def do_draw(self, data: Any) -> T:
        """Called by Hypothesis."""
        return self.draw_from(data.draw_integer, data.draw)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplicitExample:
    """An ``@example`` as written, and how it is expected to fail (``.xfail()``)."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    raises: Any = None
    reason: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decorations:
    """What Hypothesis's decorators have stored on a function.

    ``settings`` are those of ``@settings`` (or of ``@given``, unless ``settings_applied``), ``blob`` the arguments of
    ``@reproduce_failure``; ``examples`` are in the order of the lines.
    """

    settings: settings | None
    settings_applied: bool
    seed: int | None
    blob: tuple[str, bytes] | None
    examples: tuple[ExplicitExample, ...]


def decorations(function: Callable[..., Any]) -> Decorations:
    """Read what Hypothesis's decorators have stored on ``function``."""
    return Decorations(
        settings=getattr(function, _SETTINGS, None),
        settings_applied=hasattr(function, _SETTINGS_APPLIED),
        seed=getattr(function, _SEED, None),
        blob=getattr(function, _BLOB, None),
        examples=tuple(
            ExplicitExample(args=tuple(one.args), kwargs=dict(one.kwargs), raises=one.raises, reason=one.reason)
            for one in reversed(getattr(function, _EXAMPLES, ()))
        ),
    )


class Property:
    """One Hypothesis test, which draws a schedule and the test's own arguments, in the order of ``strategies``.

    Each method that drives it takes the body to call with them. ``body`` is for external drivers that use ``handle``,
    such as fuzzers. ``identity``, the test's name, goes into the ``key`` of Hypothesis's example database: without it
    all explored tests would have one key, as they share a function.
    """

    def __init__(
        self,
        schedules: SearchStrategy[Schedule],
        strategies: Mapping[str, SearchStrategy[Any]],
        identity: str,
        body: Body | None = None,
    ) -> None:
        self._body = body

        def explored(claude_tokens_schedule: Schedule, **arguments: Any) -> None:
            __tracebackhide__ = True
            assert self._body is not None, "nobody drives this test"
            self._body(claude_tokens_schedule, arguments)

        setattr(explored, _DIGEST, identity.encode())
        self._test: Any = given(claude_tokens_schedule=schedules, **strategies)(explored)
        self.key: bytes = function_digest(explored)

    @property
    def handle(self) -> Any:
        """The test's documented attribute ``hypothesis``, for fuzzers and asynchronous plugins."""
        return self._test.hypothesis

    def decorate(
        self, seed: int | None, blob: tuple[str, bytes] | None, examples: Sequence[tuple[Schedule, ExplicitExample]]
    ) -> None:
        """Apply ``@seed``, ``@reproduce_failure`` and ``@example``, with a schedule for each example."""
        setattr(self._test, _SEED, seed)
        setattr(self._test, _BLOB, blob)
        marks = [
            core.Example((), {SCHEDULE: schedule, **one.kwargs}, raises=one.raises, reason=one.reason)
            for schedule, one in reversed(examples)
        ]
        setattr(self._test, _EXAMPLES, marks)

    def run(self, body: Body, chosen: settings) -> bool:
        """An ordinary run of Hypothesis, without its printed reports; its errors are raised.

        Returns whether it ran to its end; ``False`` if the body raised :class:`Stop`.
        """
        setattr(self._test, _SETTINGS, chosen)
        with self._driven(body) as ended:
            _call(self._test)
        return not ended

    def shrink(self, body: Body, choices: bytes, chosen: settings, phases: Sequence[Phase]) -> bool:
        """Like :meth:`run`, but begins with the failure behind ``choices``, and goes through ``phases`` with it.

        The failure is passed in a temporary database, as the user's may be missing or read-only.
        """
        database = InMemoryExampleDatabase()
        database.save(self.key + _SECONDARY, choices)
        setattr(self._test, _DATABASE_KEY, self.key)  # with --hypothesis-seed Hypothesis would not read the database
        try:
            return self.run(body, settings(chosen, phases=phases, database=database))
        finally:
            delattr(self._test, _DATABASE_KEY)

    def reproduce(self, body: Body, choices: bytes, chosen: settings) -> None:
        """Run ``body`` with the schedule and arguments of ``choices``; does nothing if they can't be drawn any more."""
        before = getattr(self._test, _BLOB)
        setattr(self._test, _BLOB, (hypothesis.__version__, core.encode_failure(choices_from_bytes(choices) or ())))
        try:
            with suppress(DidNotReproduce):
                self.run(body, settings(chosen, phases=[Phase.reuse], database=None))
        finally:
            setattr(self._test, _BLOB, before)

    def fuzz(self, body: Body, data: bytes, chosen: settings) -> None:
        """Run ``body`` with a schedule and arguments drawn from ``data``; does nothing if ``data`` is too short.

        Hypothesis reads the settings ``chosen`` at the first call only.
        """
        setattr(self._test, _SETTINGS, chosen)
        with self._driven(body):
            _call(self._test.hypothesis.fuzz_one_input, data)

    def keep(self, database: ExampleDatabase | None, choices: bytes, *, shrunk: bool) -> None:
        """Save ``choices`` for the next run to begin with; like Hypothesis, not under ``--hypothesis-seed``."""
        if database is not None and core.global_force_seed is None:
            database.save(self.key if shrunk else self.key + _SECONDARY, choices)

    @contextmanager
    def _driven(self, body: Body) -> Iterator[list[Stop]]:
        ended: list[Stop] = []
        before, self._body = self._body, body
        try:
            with with_reporter(lambda _: None):
                yield ended
        except Stop as stop:
            if stop.error is not None:
                raise stop.error from None
            ended.append(stop)
        finally:
            self._body = before


@calls_foreign_code
def _call(test: Any, *args: Any) -> None:
    """Call Hypothesis: what a signal raises is raised in there."""
    test(*args)


@contextmanager
def storing_in(folder: str) -> Iterator[None]:
    """In the block, Hypothesis stores its files in ``folder``, instead of ``.hypothesis`` in the current folder."""
    configuration.set_hypothesis_home_dir(folder)
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(None)


def choices_of_this_run() -> bytes:
    """The choices of Hypothesis's engine for the running example, encoded; empty for an explicit example."""
    data = current_build_context().data
    return b"" if data.status is Status.INVALID else choices_to_bytes(data.choices)


def choices_of_integers(drawn: Sequence[int]) -> bytes:
    """Integers from another source, encoded like the engine's choices."""
    return choices_to_bytes(drawn)


def forget_targets() -> None:
    """Let ``hypothesis.target()`` accept labels again that it has seen: it takes each only once per example."""
    current_build_context().data.target_observations.clear()


def forced_seed() -> int | None:
    """The seed of the option ``--hypothesis-seed``, if given."""
    seed: int | None = core.global_force_seed
    return seed


def failures_to_raise() -> tuple[type[BaseException], ...]:
    """Exceptions that Hypothesis would shrink and that must end a search: an exit, a time-out, ``pytest.fail()``."""
    return tuple(kind for kind in core.failure_exceptions_to_catch() if not issubclass(kind, Exception))


def has_other_generators() -> bool:
    """Whether Hypothesis must seed generators beyond :mod:`random` and trio's, which each run seeds, and its own."""
    known = (sys.modules["random"], core.threadlocal._hypothesis_global_random, trio_generator())
    return "numpy" in sys.modules or any(one not in known for one in entropy.RANDOMS_TO_MANAGE.values())
