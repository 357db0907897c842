"""``@explore``: a property test whose every example is one interleaving of the dispatcher under test."""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import Phase, settings
from hypothesis.strategies import SearchStrategy

from fake_server.secrecy import discreet, is_name, told
from fake_server.secrecy import shown as quoted
from fake_server.transports.inprocess import Interceptor, cached_client_setup, shared_ssl_context
from pytest_claude_tokens.judge.violations import NothingRaced
from pytest_claude_tokens.report import attach
from pytest_claude_tokens.runs.outcome import Body, Outcome
from pytest_claude_tokens.runs.process_runner import ProcessRunner, default_signals
from pytest_claude_tokens.runs.runner import Runner
from pytest_claude_tokens.runs.watchdog import Watchdog
from pytest_claude_tokens.search.campaign import Campaign
from pytest_claude_tokens.search.confirm import Counterexample, compare, confirm, evidence, shown
from pytest_claude_tokens.search.context import CONTEXT, ExplorationContext
from pytest_claude_tokens.search.exhaustive import enumerate_schedules
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.search.strategy import fault_strategy, schedules
from pytest_claude_tokens.simulation.files import switching_at_files
from pytest_claude_tokens.simulation.patches import patched
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, DeviationKind, Schedule

if TYPE_CHECKING:
    from fake_server.faults import Fault
    from pytest_claude_tokens.search.campaign import Failure

__all__ = ["Counterexample", "explore"]

_GIVEN = ("claude_tokens", "workers")
_PROCESS_EXAMPLES = 20
"""Schedules that a test with processes tries where no ``@settings`` say more."""

Kind = Literal["tasks", "threads", "processes"]


@discreet
def explore(
    bare: None = None,
    /,
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
    instead of drawing, run every schedule with at most that many deviations from default order. It is Hypothesis
    underneath: ``@settings``, ``@example``, ``@reproduce_failure`` and the example database work.

    Raises the first violation of the shortest failing schedule; ``NothingRaced`` where nothing was proved; and
    ``Nondeterministic`` where two runs of one schedule differ.
    """
    if bare is not None or callable(workers):
        raise TypeError("write @explore(), or @explore(workers=4): it takes keywords only")
    if type(workers) is not int or workers < 1:
        raise ValueError(f"explore(workers={quoted(workers)}): a number of workers, 1 or more")
    if exhaustive is not None:
        if processes or strategies or faults is not None or kills or cancel:
            raise TypeError(
                "explore(exhaustive=…) is systematic: it takes no strategies, faults, cancel, kills or processes"
            )
        if type(exhaustive) is not int or exhaustive < 0:
            raise ValueError(f"explore(exhaustive={quoted(exhaustive)}): a number of deviations, 0 or more")
    for name, strategy in strategies.items():
        if not isinstance(strategy, SearchStrategy):
            raise TypeError(
                f"explore({told(name)}={quoted(strategy)}): a further keyword is an argument's strategy, such as "
                f"{told(name)}=st.just({quoted(strategy)})"
            )
        if not is_name(name):
            raise TypeError(f"explore({told(name)}=…): a further keyword is the name of an argument of the test")
    for name, switch in (("cancel", cancel), ("processes", processes)):
        if not isinstance(switch, bool):
            raise TypeError(f"explore({name}={quoted(switch)}): True or False")
    if not isinstance(kills, bool) and not processes:
        raise TypeError("explore(kills=[…]) names signals: it needs processes=True; elsewhere it is kills=True")
    if isinstance(kills, str | bytes):
        raise TypeError(f"explore(kills={quoted(kills)}): True, or a list of signals")
    # Read here, so that what is refused is no longer in any frame when the function is decorated.
    signals = default_signals(kills) if processes else ()
    drawn_faults = fault_strategy(faults)

    def decorate(function: Callable[..., Any]) -> Callable[..., None]:
        asynchronous = inspect.iscoroutinefunction(function)
        if hasattr(function, "hypothesis"):
            raise TypeError("explore() stands in for @given: give it the strategies, as in @explore(n=st.integers())")
        if cancel and not asynchronous:
            raise TypeError("explore(cancel=True) cancels tasks: it needs an async def")
        if processes and asynchronous:
            raise TypeError("explore(processes=True) needs a def: its workers are commands")
        deaths: list[DeviationKind] = []
        if cancel:
            deaths.append("cancel")
        if kills:
            deaths.append("kill")
        drawn = schedules(workers, faults=drawn_faults, deaths=deaths, signals=signals, processes=processes)
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
        order = list(inspect.signature(function).parameters)
        strategies = dict(sorted(strategies.items(), key=lambda item: order.index(item[0]) if item[0] in order else 0))
        self._fixtures: dict[str, Any] = {}
        self._runner: Runner | ProcessRunner | None = None
        identity = f"{function.__module__}.{function.__qualname__}"
        self._campaign = Campaign(self._execute, drawn, strategies, identity, repeatable=kind != "processes")
        self.test = self._wrapper(strategies)

    def _wrapper(self, strategies: Mapping[str, Any]) -> Any:
        function = self._function
        signature = inspect.signature(function)
        for name in sorted(strategies):
            if name not in signature.parameters:
                raise TypeError(f"{function.__name__}() has no argument {name}, for which there is a strategy")
            if name in _GIVEN:
                raise TypeError(f"{name} is what explore() gives: it takes no strategy")
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
            stack.enter_context(shared_ssl_context())
            stack.enter_context(cached_client_setup())
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
        base = self._settings(context)
        replay = None if context.replay is None else self._read(context.replay)
        if replay is not None:
            context = _as_it_was(context, replay)
        failure = None
        try:
            with self._stage(context, args) as runner:
                self._search(replay, base, context)
                if campaign.failed is not None:
                    failure = self._explain(campaign.failed, base, context)
                elif replay is None and isinstance(runner, Runner):
                    self._same_twice(runner)
        except BaseException:
            if campaign.schedules:
                context.reported(campaign.report(self._exhaustive))
            raise
        context.reported(campaign.report(self._exhaustive))
        if failure is not None:
            raise failure
        if replay is None:
            self._nothing_raced(base)

    def _settings(self, context: ExplorationContext) -> settings:
        """Those of the test, else the profile's; but a run with processes takes a thousand times as long as others."""
        base: settings = getattr(self.test, "_hypothesis_internal_use_settings", None) or settings()
        if context.examples is not None:
            return settings(base, max_examples=context.examples)
        if self._kind != "processes" or hasattr(self.test, "_hypothesis_internal_settings_applied"):
            return base
        return settings(base, max_examples=min(base.max_examples, _PROCESS_EXAMPLES))

    def _search(self, replay: Replay | None, base: settings, context: ExplorationContext) -> None:
        __tracebackhide__ = True
        campaign = self._campaign
        if replay is not None:
            campaign.read_marks(self.test)
            campaign.replay(replay.schedule, replay.choices, replay.example, base)
        elif self._exhaustive is not None:
            enumerate_schedules(lambda schedule: self._execute(schedule, {}), campaign, self._exhaustive)
        else:
            campaign.search(base, self.test, context.seed)

    def _nothing_raced(self, base: settings) -> None:
        __tracebackhide__ = True
        if self._workers < 2:
            warnings.warn("explore(workers=1): one worker alone can't race", stacklevel=4)
        elif not self._campaign.raced and (self._exhaustive is not None or Phase.generate in base.phases):
            raise NothingRaced(f"{self._workers} workers, no request while another's job was under way")

    def _same_twice(self, runner: Runner) -> None:
        """Raise where two runs in default order differ. A test with arguments is only compared where it fails."""
        __tracebackhide__ = True
        if not self._names:
            first, second = (runner.run(DEFAULT_ORDER, self._fixtures) for _ in range(2))
            compare(first, second)

    def _read(self, token: str) -> Replay:
        """The replay behind ``token``. Raises ``ValueError`` where it was made for another test."""
        __tracebackhide__ = True
        replay = Replay.read(token)
        mine, its = (
            _described(kind, workers, names)
            for kind, workers, names in (
                (self._kind, self._workers, self._names),
                (replay.kind, replay.workers, replay.names),
            )
        )
        if mine != its:
            raise ValueError(
                f"the replay token was made for {its}, and this test has {mine}: give it to the test that printed it "
                f"({token})"
            )
        return replay

    def _explain(self, first: Failure, base: settings, context: ExplorationContext) -> BaseException:
        """Make the failing schedule as short as it goes, see that it can be repeated, and say how."""
        __tracebackhide__ = True
        best, replayed = confirm(
            first,
            lambda schedule: self._campaign.again(schedule, first.choices, first.example, base),
            polished=context.replay is None,
            exactly=self._kind != "processes",
        )
        token = Replay(
            kind=self._kind,
            workers=self._workers,
            schedule=best.outcome.schedule,
            policy=best.outcome.history.header.get("policy") or {},
            names=self._names,
            choices=best.choices if self._names else b"",
            example=best.example,
        ).token()
        found = Counterexample(
            best=best,
            example=0 if context.replay is not None else self._campaign.found_at,
            deviations_before=len(first.outcome.schedule.deviations),
            replayed=replayed,
            token=token,
            replay=f"{context.command} --claude-tokens-replay={token}",
        )
        error = shown(found, first.outcome.error)
        known = evidence(found)
        context.failed(known)
        attach(error, known)
        return error


def _as_it_was(context: ExplorationContext, replay: Replay) -> ExplorationContext:
    """With the policy that the failure met, wherever that came from."""
    handle = {name: value for name, value in context.handle.items() if name not in ("policy", "latency")}
    return replace(context, handle={**handle, "policy": replay.policy_again()})


def _described(kind: str, workers: int, names: tuple[str, ...]) -> str:
    drawn = f" and the strategies {', '.join(names)}" if names else ""
    return f"{workers} workers as {kind}{drawn}"


def _bound(function: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """A method with its instance, still recognizable as asynchronous."""
    return types.MethodType(function, *args)
