"""One call of an explored test: it searches, or replays a token, reports, and raises the failure that it found.

All state of one call is in its session, so that calls of one test (with other parameters, from other instances of its
class) share only the plan.
"""

from __future__ import annotations

import types
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import Phase, Verbosity, settings

from fake_server.transports.inprocess import Interceptor, cached_client_setup, shared_ssl_context
from pytest_claude_tokens.guard import guard
from pytest_claude_tokens.handle.settings import answered_hosts
from pytest_claude_tokens.judge.earning import told, told_missed
from pytest_claude_tokens.judge.violations import NothingRaced
from pytest_claude_tokens.report.evidence import attach
from pytest_claude_tokens.runs.children import noticing_children
from pytest_claude_tokens.runs.leftovers import children_ended
from pytest_claude_tokens.runs.outcome import Body, Outcome
from pytest_claude_tokens.runs.process_runner import ProcessRunner
from pytest_claude_tokens.runs.runner import Runner
from pytest_claude_tokens.runs.watchdog import Watchdog
from pytest_claude_tokens.search.campaign import Campaign
from pytest_claude_tokens.search.confirm import Counterexample, compare, confirm, evidence, shown
from pytest_claude_tokens.search.exhaustive import enumerate_schedules
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.search.shrink import as_deviations
from pytest_claude_tokens.search.strategy import ScheduleStrategy
from pytest_claude_tokens.search.tally import Failure, Tally
from pytest_claude_tokens.simulation.files import switching_at_files
from pytest_claude_tokens.simulation.instruments import Instruments
from pytest_claude_tokens.simulation.interrupts import Interruptible
from pytest_claude_tokens.simulation.patches import patched
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Schedule
from pytest_claude_tokens.simulation.trio_runs import trio_simulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_claude_tokens.judge.history import History
    from pytest_claude_tokens.search.context import ExplorationContext
    from pytest_claude_tokens.search.hypothesis_engine import Decorations
    from pytest_claude_tokens.search.plan import Plan

    Execute = Callable[[Schedule, Mapping[str, Any]], Outcome]

__all__ = ["Session", "stage"]

_DEFAULT_PROCESS_EXAMPLES = 20
"""Schedules that a test with processes tries without ``@settings``: each takes about a second."""


@contextmanager
def stage(
    plan: Plan, context: ExplorationContext, args: tuple[Any, ...] = (), *, slow: float | None = None
) -> Iterator[Execute]:
    """Enter the patches and servers that all runs of one search share; yields the function that makes one run.

    ``args``: the instance, if the body is a method. ``slow``: in place of the plan's.
    """
    function = types.MethodType(plan.function, *args) if args else plan.function
    instruments = None if plan.preempt is None else Instruments(plan.preempt)
    body = Body(
        function=function,
        workers=plan.workers,
        settings=context.handle,
        instruments=instruments,
        slow=plan.slow if slow is None else slow,
    )
    if plan.kind == "processes":
        yield ProcessRunner(body).run
        return
    runner = Runner(body, record=plan.exhaustive is not None)
    with ExitStack() as stack:
        stack.callback(runner.close)
        guard.install()  # under the patches, which take its place where sockets connect
        stack.enter_context(shared_ssl_context())
        stack.enter_context(cached_client_setup())
        hosts = answered_hosts(context.handle.get("service"), context.handle.get("hosts", ()))
        stack.enter_context(Interceptor(runner.resolve, hosts=hosts))
        stack.enter_context(children_ended())
        stack.enter_context(Watchdog())
        stack.enter_context(patched())
        stack.enter_context(trio_simulated())
        stack.enter_context(switching_at_files())
        stack.enter_context(noticing_children())
        if instruments is not None:
            stack.enter_context(instruments.installed())
        yield runner.run


class Session:
    """One call. ``args`` and ``fixtures`` are pytest's arguments; ``decorations`` are Hypothesis's on the test.

    If the context has a replay token, raises ``BadToken``, or ``ValueError`` for a token of another test.
    """

    def __init__(
        self,
        plan: Plan,
        context: ExplorationContext,
        decorations: Decorations,
        args: tuple[Any, ...],
        fixtures: Mapping[str, Any],
    ) -> None:
        __tracebackhide__ = True
        self._plan = plan
        self._decorations = decorations
        self._args = args
        self._fixtures = fixtures
        self._replay = None if context.replay is None else _read(context.replay, plan)
        self._context = context if self._replay is None else _with_policy_of(self._replay, context)
        self._slow = plan.slow if self._replay is None else self._replay.slow
        self._settings = _settings(plan, context, decorations)
        # Whoever asked Hypothesis to talk wants to read what it printed between the runs, too.
        self._starting = context.starting if self._settings.verbosity <= Verbosity.normal else lambda: None
        self._tally = Tally(progress=context.progress)
        self._last: History | None = None
        if isinstance(plan.schedules, ScheduleStrategy):
            plan.schedules.forget()

    def run(self) -> None:
        """Search, report, and raise the error of the shortest failing schedule, or that nothing raced."""
        __tracebackhide__ = True
        error: BaseException | None = None
        try:
            with Interruptible(), stage(self._plan, self._context, self._args, slow=self._slow) as bare:
                error = self._run_on(lambda schedule, arguments: self._execute(bare, schedule, arguments))
        except BaseException:
            if self._tally.schedules:
                self._report()
            raise
        self._report()
        if error is not None:
            raise error
        if self._replay is None:
            self._check_races()
        if self._context.passed is not None and self._last is not None:
            self._context.passed(self._last)

    def _execute(self, bare: Execute, schedule: Schedule, arguments: Mapping[str, Any]) -> Outcome:
        __tracebackhide__ = True
        self._starting()
        outcome = bare(schedule, {**self._fixtures, **arguments})
        if self._context.passed is not None:
            self._last = outcome.history
        if self._plan.preempt is not None and isinstance(self._plan.schedules, ScheduleStrategy):
            self._plan.schedules.learn(outcome)
        return outcome

    def _run_on(self, execute: Execute) -> BaseException | None:
        __tracebackhide__ = True
        plan = self._plan
        campaign = Campaign(plan, execute, self._tally, self._decorations, base=self._settings, seed=self._context.seed)
        failed = self._search(campaign, execute)
        if failed is not None:
            return self._explain(failed, campaign)
        # Two runs are compared up front only without arguments, which would have to be drawn twice; a test that has
        # some is compared when it fails.
        if self._replay is None and plan.repeatable and not plan.strategies:
            first, second = (execute(DEFAULT_ORDER, {}) for _ in range(2))
            compare(first, second)
        return None

    def _search(self, campaign: Campaign, execute: Execute) -> Failure | None:
        __tracebackhide__ = True
        if self._replay is not None:
            return campaign.replay(self._replay.schedule, self._replay.choices, self._replay.example)
        if self._plan.exhaustive is None:
            return campaign.search()
        outcome = enumerate_schedules(
            lambda schedule: execute(schedule, {}), self._tally, self._plan.exhaustive, self._slow
        )
        return self._tally.best() if outcome is None else Failure(outcome=outcome)

    def _explain(self, first: Failure, campaign: Campaign) -> BaseException:
        """Shrink the failing schedule, check that it can be repeated, and describe how."""
        __tracebackhide__ = True
        plan, context, replaying = self._plan, self._context, self._replay is not None
        best, replayed = confirm(
            first,
            lambda schedule: campaign.again(schedule, first.choices, first.example),
            shrinking=not replaying,
            exactly=plan.repeatable,
        )
        token = Replay(
            kind=plan.kind,
            workers=plan.workers,
            schedule=best.outcome.schedule,
            policy=best.outcome.history.header.get("policy") or {},
            names=plan.names,
            choices=best.choices if plan.strategies else b"",
            example=best.example,
            slow=self._slow,
        ).token()
        found = Counterexample(
            best=best,
            example=0 if replaying else self._tally.found_at,
            deviations_before=len(as_deviations(first.outcome).deviations),
            replayed=replayed,
            token=token,
            replay=f"{context.command} --claude-tokens-replay={token}",
            trouble=self._tally.trouble,
        )
        known = evidence(found)
        known.workers = plan.workers
        error = shown(found, first.outcome.error, full=context.full)
        context.failed(known)
        attach(error, known)
        return error

    def _report(self) -> None:
        slow = self._slow if self._plan.repeatable else None
        self._context.reported(self._tally.report(self._plan.workers, self._plan.exhaustive, slow))

    def _check_races(self) -> None:
        """Raise ``NothingRaced`` if workers never overlapped, unless no schedule was to be drawn."""
        __tracebackhide__ = True
        workers = self._plan.workers
        if workers < 2:
            if self._plan.deaths:  # what is looked for is one worker's clean-up
                return
            warnings.warn("explore(workers=1): one worker alone can't race", stacklevel=4)
        elif not self._tally.raced and (self._plan.exhaustive is not None or Phase.generate in self._settings.phases):
            seen = f"{workers} workers, no judged request while another's job was under way"
            raise NothingRaced("; ".join([seen, *told_missed(self._tally.missed), *told(self._tally.refused)]))


def _settings(plan: Plan, context: ExplorationContext, decorations: Decorations) -> settings:
    """The test's settings, else the profile's; with processes, whose runs take about a second, fewer examples."""
    base = decorations.settings or settings()
    if context.examples is not None:
        return settings(base, max_examples=context.examples)
    if plan.kind != "processes" or decorations.settings_applied:
        return base
    return settings(base, max_examples=min(base.max_examples, _DEFAULT_PROCESS_EXAMPLES))


def _read(token: str, plan: Plan) -> Replay:
    """Decode ``token``. Raises ``ValueError`` if it was made for another test."""
    __tracebackhide__ = True
    replay = Replay.read(token)
    mine = _described(plan.kind, plan.workers, plan.names)
    its = _described(replay.kind, replay.workers, replay.names)
    if mine != its:
        raise ValueError(
            f"the replay token was made for {its}, and this test has {mine}: give it to the test that printed it "
            f"({token})"
        )
    return replay


def _with_policy_of(replay: Replay, context: ExplorationContext) -> ExplorationContext:
    """The context with the policy under which the failure was found, wherever that policy was set."""
    handle = {name: value for name, value in context.handle.items() if name not in ("policy", "latency")}
    return replace(context, handle={**handle, "policy": replay.policy_again()})


def _described(kind: str, workers: int, names: tuple[str, ...]) -> str:
    drawn = f" and the strategies {', '.join(names)}" if names else ""
    return f"{workers} workers as {kind}{drawn}"
