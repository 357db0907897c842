"""``@explore``: a property test whose every example is one interleaving of the dispatcher under test."""

from __future__ import annotations

import functools
import inspect
import re
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import zip_longest
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import Phase, settings

from fake_server.transports.inprocess import Interceptor, cheap_tls
from pytest_claude_tokens.campaign import Campaign
from pytest_claude_tokens.context import CONTEXT, ExplorationContext
from pytest_claude_tokens.drawing import schedules
from pytest_claude_tokens.frames import of_the_user
from pytest_claude_tokens.report import Evidence, attach
from pytest_claude_tokens.simulation.exhaustive import enumerate_schedules
from pytest_claude_tokens.simulation.files import switching_at_files
from pytest_claude_tokens.simulation.outcome import Body, Outcome
from pytest_claude_tokens.simulation.patches import patched
from pytest_claude_tokens.simulation.polish import polish
from pytest_claude_tokens.simulation.processes import ProcessRunner, default_signals
from pytest_claude_tokens.simulation.replay import Replay
from pytest_claude_tokens.simulation.runner import Runner
from pytest_claude_tokens.simulation.schedule import STOCK, Schedule, What
from pytest_claude_tokens.simulation.watchdog import Watchdog
from pytest_claude_tokens.violations import Nondeterministic, NothingRaced, Unknown, Violation

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from fake_server.events import Event
    from fake_server.faults import Fault

__all__ = ["Found", "explore"]

_GIVEN = ("claude_tokens", "workers")
_OTHER_WORKER = re.compile(r"w\d+ raised ")
_REPEATS = 3
_PROCESS_REPEATS = 5
_PROCESS_BUDGET = 12
"""Runs in which a failure with processes is made shorter."""
_PROCESS_SECONDS = 10.0
"""Seconds of real time for that, and as many for repeating it."""
_PROCESS_EXAMPLES = 20
"""Schedules that a test with processes tries where no ``@settings`` say more."""

Kind = Literal["tasks", "threads", "processes"]


class Found:
    """What a search knows of the failure that it raises, for the report. Everything but ``history`` is plain data."""

    def __init__(
        self, outcome: Outcome, token: str, command: str, *, example: int, before: int, replayed: tuple[int, int]
    ) -> None:
        self.history = outcome.history
        self.schedule = outcome.schedule
        self.token = token
        self.replay = f"{command} --claude-tokens-replay={token}"
        self.example = example
        self.facts_before = before
        self.decisions = outcome.decisions
        self.replayed = replayed


def explore(
    *,
    workers: int = 2,
    faults: Sequence[Fault] | SearchStrategy[Fault] | None = None,
    cancel: bool = False,
    kills: bool | Iterable[int] = False,
    processes: bool = False,
    exhaustive: int | None = None,
    **strategies: SearchStrategy[Any],
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Search the interleavings of a test body until an invariant breaks, or say how hard it was looked.

    The body takes ``claude_tokens`` and ``workers`` (both fresh for each schedule), the names of ``strategies``, and
    pytest fixtures of module or session scope. On an ``async def`` the workers are tasks of a simulated event loop, on
    a ``def`` threads of which one runs at a time. Time is simulated in both. With ``processes``, ``workers(argv)``
    starts a command in each worker, the service holds their requests, and the schedule says who goes on: in real time.

    ``faults``: faults of :class:`fake_server.Fault`, or a strategy of them, that may strike. ``cancel``: workers may
    be cancelled at an await. ``kills``: workers may die; for processes a list of signals, or SIGKILL. ``exhaustive``:
    instead of drawing, run every schedule with at most that many departures from stock order. It is Hypothesis
    underneath: ``@settings``, ``@example``, ``@reproduce_failure`` and the example database work.

    Raises the first violation of the shortest failing schedule; ``NothingRaced`` where nothing was proved; and
    ``Nondeterministic`` where two runs of one schedule differ.
    """
    if callable(workers):
        raise TypeError("write @explore(), or @explore(workers=4): it takes keywords only")
    if not isinstance(workers, int) or workers < 1:
        raise ValueError(f"explore(workers={workers!r}): 1 or more")
    if exhaustive is not None and (processes or strategies or faults is not None or kills or cancel):
        raise TypeError(
            "explore(exhaustive=…) is systematic: it takes no strategies, faults, cancel, kills or processes"
        )

    def decorate(function: Callable[..., Any]) -> Callable[..., None]:
        asynchronous = inspect.iscoroutinefunction(function)
        if cancel and not asynchronous:
            raise TypeError("explore(cancel=True) cancels tasks: it needs an async def")
        if processes and asynchronous:
            raise TypeError("explore(processes=True) needs a def: its workers are commands")
        deaths: list[What] = []
        if cancel:
            deaths.append("cancel")
        if kills:
            deaths.append("kill")
        signals = default_signals(kills) if processes else ()
        drawn = schedules(workers, faults=faults, deaths=deaths, signals=signals, processes=processes)
        kind: Kind = "processes" if processes else "tasks" if asynchronous else "threads"
        test: Callable[..., None] = _Exploration(function, workers, drawn, strategies, kind, exhaustive=exhaustive).test
        return test

    return decorate


class _Exploration:
    """One decorated function. ``test`` is what pytest collects."""

    def __init__(
        self,
        function: Callable[..., Any],
        workers: int,
        drawn: SearchStrategy[Schedule],
        strategies: dict[str, SearchStrategy[Any]],
        kind: Kind,
        *,
        exhaustive: int | None,
    ) -> None:
        self._function = function
        self._workers = workers
        self._exhaustive = exhaustive
        self._kind = kind
        self._names = tuple(sorted(strategies))
        self._fixtures: dict[str, Any] = {}
        self._runner: Runner | ProcessRunner | None = None
        identity = f"{function.__module__}.{function.__qualname__}"
        self._campaign = Campaign(self._execute, drawn, strategies, identity, repeatable=kind != "processes")
        self.test = self._wrapper(strategies)

    def _wrapper(self, strategies: Mapping[str, Any]) -> Any:
        function = self._function
        signature = inspect.signature(function)
        unknown = set(strategies) - set(signature.parameters)
        if unknown:
            raise TypeError(f"{function.__name__}() has no argument for the strategy {', '.join(sorted(unknown))}")
        left = [p for name, p in signature.parameters.items() if name not in _GIVEN and name not in strategies]

        @functools.wraps(function)
        def test(*args: Any, **fixtures: Any) -> None:
            __tracebackhide__ = True
            self._run(args, fixtures)

        # A plain function to pytest, whatever the body is: asynchronous plugins must not touch it.
        del test.__wrapped__
        test.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        test.is_hypothesis_test = True  # type: ignore[attr-defined]
        test.is_claude_tokens_exploration = True  # type: ignore[attr-defined]
        test.hypothesis = self._campaign.test.hypothesis  # type: ignore[attr-defined]
        return test

    def _execute(self, schedule: Schedule, arguments: Mapping[str, Any]) -> Outcome:
        if self._runner is None:  # a fuzzer calls the property by itself
            with self._stage(ExplorationContext()) as runner:
                return runner.run(schedule, {**self._fixtures, **arguments})
        return self._runner.run(schedule, {**self._fixtures, **arguments})

    @contextmanager
    def _stage(self, context: ExplorationContext, args: tuple[Any, ...] = ()) -> Iterator[Runner | ProcessRunner]:
        """Everything that stands around the runs of one search, entered once."""
        function = self._function if not args else _bound(self._function, args)
        body = Body(function=function, workers=self._workers, settings=context.handle)
        with ExitStack() as stack:
            if self._kind == "processes":
                self._runner = ProcessRunner(body)
                stack.callback(setattr, self, "_runner", None)
                yield self._runner
                return
            runner = Runner(body, record=self._exhaustive is not None)
            stack.enter_context(cheap_tls())
            stack.enter_context(Interceptor(runner.resolve, hosts=context.handle.get("hosts", ())))
            stack.enter_context(Watchdog())
            stack.enter_context(patched())
            stack.enter_context(switching_at_files())
            self._runner = runner
            stack.callback(setattr, self, "_runner", None)
            yield runner

    def _run(self, args: tuple[Any, ...], fixtures: dict[str, Any]) -> None:
        __tracebackhide__ = True
        context = CONTEXT.get() or ExplorationContext()
        campaign = self._campaign
        campaign.reset()
        self._fixtures = fixtures
        base = getattr(self.test, "_hypothesis_internal_use_settings", None) or self._default_settings()
        if context.examples is not None:
            base = settings(base, max_examples=context.examples)
        with self._stage(context, args) as runner:
            if context.replay is not None:
                self._replay(context.replay, base, context)
            elif self._exhaustive is not None:
                enumerate_schedules(lambda schedule: self._execute(schedule, {}), campaign, self._exhaustive)
            else:
                campaign.search(base, self.test, context.seed)
            if campaign.failed is None and context.replay is None and isinstance(runner, Runner):
                self._same_twice(runner)
            failure = None if campaign.failed is None else self._explain(campaign, context)
        context.reported(campaign.report(self._exhaustive))
        if failure is not None:
            raise failure
        if context.replay is None:
            self._nothing_raced(campaign, base)

    def _default_settings(self) -> settings:
        """The profile's; but a run with processes takes a thousand times as long as one without."""
        base = settings()
        few = min(base.max_examples, _PROCESS_EXAMPLES)
        return settings(base, max_examples=few) if self._kind == "processes" else base

    def _nothing_raced(self, campaign: Campaign, base: settings) -> None:
        __tracebackhide__ = True
        if self._workers < 2:
            warnings.warn("explore(workers=1): one worker alone can't race", stacklevel=4)
        elif not campaign.raced and (self._exhaustive is not None or Phase.generate in base.phases):
            raise NothingRaced(f"{self._workers} workers, no request while another's job was under way")

    def _same_twice(self, runner: Runner) -> None:
        """Raise where two runs in stock order differ. A test with arguments is only compared where it fails."""
        __tracebackhide__ = True
        if not self._names:
            first, second = (runner.run(STOCK, self._fixtures) for _ in range(2))
            _compare(first, second)

    def _replay(self, token: str, base: settings, context: ExplorationContext) -> None:
        replay = Replay.read(token)
        mine = (self._kind, self._workers, self._names)
        if (replay.kind, replay.workers, replay.names) != mine:
            raise ValueError(
                f"{token} was made for {_described(replay.kind, replay.workers, replay.names)}, and this test is for "
                f"{_described(*mine)}: replay it with the test that printed it"
            )
        del context
        self._campaign.replay(replay.schedule, replay.choices, base)

    def _explain(self, campaign: Campaign, context: ExplorationContext) -> BaseException:
        """Make the failing schedule as short as it goes, see that it can be repeated, and say how."""
        assert campaign.failed is not None
        first, arguments, choices = campaign.failed
        if isinstance(first.error, Unknown):
            return first.error
        best, replayed = (
            self._confirm_exactly(first, arguments, polished=context.replay is None)
            if self._kind != "processes"
            else self._confirm_roughly(first, arguments, polished=context.replay is None)
        )
        error = best.error
        assert error is not None
        policy = best.history.header.get("policy") or {}
        replay = Replay(
            kind=self._kind,
            workers=self._workers,
            schedule=best.schedule,
            policy=policy,
            names=self._names,
            choices=choices,
        )
        _annotate(error, first.error, arguments)
        found = Found(
            best,
            replay.token(),
            context.command,
            example=campaign.found_at,
            before=len(first.schedule.facts),
            replayed=replayed,
        )
        error.claude_tokens_found = found  # type: ignore[attr-defined]
        known = Evidence(history=found.history, replay=found.replay)
        context.failed(known)
        attach(error, known)
        if isinstance(error, Violation):  # no line of code says as much as its story
            if error.__cause__ is not None:  # nor do the inner workings of the client that was refused
                error.__cause__ = error.__cause__.with_traceback(None)
            return error.with_traceback(None)
        return error.with_traceback(of_the_user(error.__traceback__))

    def _confirm_exactly(
        self, first: Outcome, arguments: Mapping[str, Any], *, polished: bool
    ) -> tuple[Outcome, tuple[int, int]]:
        """The shortest failing outcome, and how often it came again. Raises where a run of it differs."""
        best = first
        if polished:
            best, _ = polish(first, lambda schedule: self._execute(schedule, arguments))
        for _ in range(_REPEATS):
            _compare(best, self._execute(best.schedule, arguments))
        return best, (_REPEATS, _REPEATS)

    def _confirm_roughly(
        self, first: Outcome, arguments: Mapping[str, Any], *, polished: bool
    ) -> tuple[Outcome, tuple[int, int]]:
        """As far as processes, which have a will of their own, and a few seconds allow."""
        passed = replace(first, error=None)
        until = monotonic() + _PROCESS_SECONDS

        def run(schedule: Schedule) -> Outcome:
            return self._execute(schedule, arguments) if monotonic() < until else passed

        best = polish(first, run, _PROCESS_BUDGET)[0] if polished else first
        until = monotonic() + _PROCESS_SECONDS
        tried = agreed = 0
        while tried < _PROCESS_REPEATS and (not tried or monotonic() < until):
            tried += 1
            agreed += type(self._execute(best.schedule, arguments).error) is type(best.error)
        return best, (agreed, tried)


def _annotate(error: BaseException, noted: BaseException | None, arguments: Mapping[str, Any]) -> None:
    """Of Hypothesis's notes keep the blob; the schedule is told better by the story, the arguments are told here."""
    blobs = [note for note in getattr(noted, "__notes__", ()) if "reproduce_failure" in note]
    others = [note for note in getattr(error, "__notes__", ()) if _OTHER_WORKER.match(note)]
    drawn = [f"{name}={value!r}" for name, value in sorted(arguments.items())]
    error.__notes__ = [*others, *([f"with {', '.join(drawn)}"] if drawn else []), *blobs]
    if not error.__notes__:
        del error.__notes__


def _compare(first: Outcome, second: Outcome) -> None:
    """Raise where two runs of one schedule differ, at the first event that does."""
    __tracebackhide__ = True
    one, two = first.lines(), second.lines()
    for number, (a, b) in enumerate(zip_longest(one, two), start=1):
        if a != b:
            events = list(first.history)
            what = _said(events[number - 1]) if number <= len(events) else "nothing more"
            others = list(second.history)
            other = _said(others[number - 1]) if number <= len(others) else "nothing more"
            raise Nondeterministic(f"two runs of one schedule differ at event #{number}: {what} | {other}")


def _said(event: Event) -> str:
    words = [event.actor, event.f, event.type, event.refresh or event.bearer or "", f"at {event.t:g} s"]
    return " ".join(word for word in words if word)


def _described(kind: str, workers: int, names: tuple[str, ...]) -> str:
    drawn = f" and the strategies {', '.join(names)}" if names else ""
    return f"{workers} workers as {kind}{drawn}"


def _bound(function: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """A method with its instance, still recognizable as asynchronous."""
    return types.MethodType(function, *args)
