"""The body that is explored and the outcome of one run, as values; and the steps that all runners share."""

from __future__ import annotations

import inspect
import sys
from asyncio import CancelledError
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from pytest_claude_tokens.judge.violations import RefreshStorm, TokenLeak, Unknown, Unserved, Violation
from pytest_claude_tokens.report.evidence import notes_of, set_notes
from pytest_claude_tokens.simulation.conflicts import classes
from pytest_claude_tokens.simulation.interrupts import calls_foreign_code
from pytest_claude_tokens.simulation.scheduler import SLOW_SECONDS

if TYPE_CHECKING:
    from fake_server.server import Server
    from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
    from pytest_claude_tokens.judge.history import History
    from pytest_claude_tokens.simulation.chooser import Chooser
    from pytest_claude_tokens.simulation.instruments import Instruments
    from pytest_claude_tokens.simulation.schedule import Delay, Deviation, DeviationKind, Schedule
    from pytest_claude_tokens.simulation.waiter import SimulatedWaiter
    from pytest_claude_tokens.simulation.watch import Step

__all__ = ["Body", "Outcome", "call", "conclude", "is_failure", "outranking", "plan_faults"]


@calls_foreign_code
def call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call the function of a body: what a signal raises is raised in there."""
    return function(**arguments)


def is_failure(error: BaseException) -> bool:
    """Whether ``error`` means that the body failed: any ``Exception``, a ``CancelledError``, and ``pytest.fail()``.

    Skips, interruptions and ``pytest.exit()`` do not, nor does a time-out of pytest-timeout: repeating the run would
    only wait for the same time-out again.
    """
    kind, traceback = type(error), error.__traceback__
    if isinstance(error, Exception | CancelledError):
        return (kind.__module__, kind.__qualname__) != ("_pytest.outcomes", "Exit")
    if (kind.__module__, kind.__qualname__) not in (("_pytest.outcomes", "Failed"), ("builtins", "Failed")):
        return False
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == "pytest_timeout":
            return False
        traceback = traceback.tb_next
    return True


def is_time_out(error: BaseException | None) -> bool:
    """Whether time has run out: a ``TimeoutError``, or trio's ``TooSlowError``, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_time_out, error.exceptions))
    return isinstance(error, (TimeoutError, getattr(sys.modules.get("trio"), "TooSlowError", TimeoutError)))


def outranking(found: BaseException | None, error: BaseException | None) -> BaseException | None:
    """The error that a run ends with: the violation ``found``, caused by the body's ``error``, else ``error`` alone."""
    if found is None:
        return error
    found.__cause__ = error
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The function that is explored, its number of workers, and how each handle is made.

    ``instruments``: what its threads are preempted by, between two lines.
    ``slow``: by how many simulated seconds a schedule may hold up workers and replies.
    """

    function: Callable[..., Any]
    workers: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    instruments: Instruments | None = None
    slow: float = SLOW_SECONDS

    @property
    def kind(self) -> Literal["tasks", "threads"]:
        """What kind of workers it has."""
        return "tasks" if inspect.iscoroutinefunction(self.function) else "threads"

    def wanted(self) -> frozenset[str]:
        """Those of the arguments that a run provides which the function has as parameters."""
        return frozenset({"claude_tokens", "workers"} & set(inspect.signature(self.function).parameters))


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The outcome of one run. ``error``: the exception that the test would raise, or ``None``.

    ``taken``: its deviations from default order, one for each decision; ``freezes``: the same in fewer words, under a
    random kind; ``slow``: the legs and steps that took a random time. ``decisions``, ``legs``: how many there were;
    ``first_leg``, ``last_leg``: the decisions at which these began; ``slept``: the seconds of its timers; ``held``:
    whom the schedule held up; ``unscheduled``: how many requests each client sent that could not be scheduled.
    ``mild``: a violation that the test would raise, and that ends no search: see :func:`conclude`.
    ``in_real_time``: whether it has waited for a process of its own, so that its times are not the schedule's alone.
    ``ran_out``: whether it ended by a time-out of the body's own, which is no failure as the search had held it up.
    ``steps``: what its threads accessed, where they may be preempted; ``words``: for some deviations, what they did, if
    there was a witness.
    """

    schedule: Schedule
    error: BaseException | None
    history: History
    raced: bool
    taken: tuple[Deviation, ...]
    freezes: tuple[Deviation, ...] = ()
    slow: tuple[Deviation, ...] = ()
    decisions: int
    legs: int = 0
    first_leg: int = 0
    last_leg: int = 0
    slept: tuple[float, ...] = ()
    held: tuple[Delay, ...] = ()
    unscheduled: Mapping[str, int] = field(default_factory=dict)
    options: tuple[tuple[tuple[DeviationKind, int], ...], ...] = ()
    suspendable: tuple[tuple[int, int], ...] = ()
    legs_begun: tuple[int, ...] = ()
    mild: Violation | None = None
    steps: tuple[Step, ...] = ()
    words: Mapping[Deviation, str] = field(default_factory=dict)
    in_real_time: bool = False
    ran_out: bool = False

    @property
    def stuck(self) -> bool:
        """Whether it ended as a thread was stuck outside the simulation. Each such run takes seconds."""
        return isinstance(self.error, Unknown) or bool(self.history.noted("stuck"))

    @property
    def timed(self) -> bool:
        """Whether the body waits for time to pass, as far as can be seen where no request takes time of its own."""
        return bool(self.slept) and all(why == "slow" for _, why, _ in self.held)

    def fingerprint(self) -> int:
        """A hash of the history, equal for two runs with the same events, whatever their times."""
        return hash(tuple(map(_facts, self.history.events)))

    def shape(self) -> int:
        """A hash that is equal for two runs which differ only in the order of independent steps and allow the same next
        deviations.
        """
        sequences: dict[str, list[Any]] = {}
        for event in self.history:
            for key in (event.actor, event.grant):
                if key is not None:
                    sequences.setdefault(key, []).append(_facts(event))
        decision, leg = self.departed()
        next_ones = (
            self.options[decision:],
            tuple((number - decision, who) for number, who in self.suspendable if number >= decision),
            tuple(begun - decision for begun in self.legs_begun[leg:]),
        )
        histories = tuple((key, tuple(sequences[key])) for key in sorted(sequences))
        return hash((histories, next_ones, classes(self.steps), self._points_left()))

    def _points_left(self) -> tuple[tuple[int, str, int], ...]:
        """Where threads may still be preempted, after all deviations of the schedule."""
        last = max((number for number, step in enumerate(self.steps) if not step.touched), default=-1)
        return tuple((step.worker, step.access.place, step.times) for step in self.steps[last + 1 :])

    def departed(self) -> tuple[int, int]:
        """The number of the first decision and that of the first leg after all deviations of the schedule."""
        decision = leg = 0
        for deviation in self.schedule.deviations:
            if deviation.what == "slow":
                decision, leg = max(decision, self.legs_begun[deviation.position]), deviation.position + 1
            elif deviation.what != "preempt":
                decision = deviation.position + 1
        decision = max([decision, *(step.decision for step in self.steps if not step.touched)])
        later = bisect_left(self.legs_begun, decision)
        return decision, max(leg, later)

    def lines(self, *, times: bool = True) -> list[str]:
        """The history as the lines of its file. ``times``: with the time of each event."""
        return [(event if times else replace(event, t=0.0)).to_json() for event in self.history]


def plan_faults(server: Server, schedule: Schedule) -> None:
    """Hand the schedule's planned faults to ``server``."""
    for planned in schedule.planned_faults:
        server.faults.add(planned.target, planned.fault, skip=planned.position)


def conclude(
    schedule: Schedule,
    chooser: Chooser,
    tokens: ClaudeTokens,
    history: History,
    error: BaseException | None,
    *,
    raced: bool,
    waiter: SimulatedWaiter | None = None,
    slept: Iterable[float] = (),
    steps: Iterable[Step] = (),
    held: Sequence[Delay] = (),
    unscheduled: Mapping[str, int] | None = None,
    in_real_time: bool = False,
) -> Outcome:
    """The outcome of a run that has ended. ``error``: the exception that ended the body.

    A search goes on after a run in which nothing worse happened than a leak or a needless refresh, as either may be in
    every schedule, and hide a double spend that is in few. A leak does not take the place of the body's own error
    either.
    """
    # A worker's own cancellation is a failure like any other here; to a handle it would be a signal to a test's runner.
    judged = RuntimeError() if isinstance(error, CancelledError) else error
    found, mild = _worst_first(tokens.to_raise(judged)), None
    # No client's time-out fires by what the search does, as nearly all code would be blamed; and so it would where a
    # time-out of the body's own, around the wait for another's refresh say, fires as the search has held that up.
    excused = found is None and is_time_out(error) and any(seconds > 0 for _, _, seconds in held)
    if excused:
        error = None
    if isinstance(found, TokenLeak) and error is not None:
        set_notes(error, [*notes_of(error), f"also {found.invariant}: {found}"])
        found = None
    elif isinstance(found, _MILD) and error is None and all(isinstance(one, _MILD) for one in found.others):
        found, mild = None, found
    return Outcome(
        schedule=schedule,
        mild=mild,
        error=outranking(found, error),
        history=history,
        raced=raced,
        taken=tuple(chooser.taken),
        freezes=chooser.as_freezes(),
        slow=(*chooser.lates, *(() if waiter is None else waiter.taken)),
        decisions=chooser.decision,
        legs=0 if waiter is None else waiter.legs,
        first_leg=0 if waiter is None else waiter.first_decision,
        last_leg=0 if waiter is None else waiter.last_decision,
        slept=tuple(sorted(slept)),
        held=tuple(held),
        unscheduled=dict(unscheduled or {}),
        in_real_time=in_real_time,
        ran_out=excused,
        options=tuple(chooser.options or ()),
        steps=tuple(steps),
        suspendable=tuple(chooser.suspendable),
        legs_begun=() if waiter is None else tuple(waiter.begun),
    )


_MILD = (TokenLeak, RefreshStorm)


def _worst_first(found: Violation | Unserved | Unknown | None) -> Violation | Unserved | Unknown | None:
    """What a run found, with its leaks behind all else."""
    if not isinstance(found, TokenLeak):
        return found
    first, *others = sorted((found, *found.others), key=lambda one: isinstance(one, TokenLeak))
    first.others = tuple(others)
    return first


_facts = attrgetter("actor", "type", "f", "grant", "refresh", "bearer", "status", "error")
