"""``@explore``: a property test whose every example is one interleaving of the dispatcher under test."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from fake_server.secrecy import discreet
from pytest_claude_tokens.search.confirm import Counterexample
from pytest_claude_tokens.search.context import CONTEXT, ExplorationContext
from pytest_claude_tokens.search.hypothesis_engine import Property, decorations
from pytest_claude_tokens.search.plan import Options, Plan, checked, planned
from pytest_claude_tokens.search.session import Session, stage

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from fake_server.faults import Fault
    from pytest_claude_tokens.search.signatures import Decorator
    from pytest_claude_tokens.simulation.schedule import Schedule

__all__ = ["Counterexample", "explore"]


@overload
def explore(
    *,
    workers: int = 2,
    faults: Sequence[Fault] | SearchStrategy[Fault] | None = None,
    cancel: bool = False,
    kills: bool | Iterable[int] = False,
    processes: bool = False,
    exhaustive: int | None = None,
    preempt: bool | Sequence[str] | None = None,
    slow: float = 60,
) -> Decorator: ...


@overload
def explore(
    *,
    workers: int = 2,
    faults: Sequence[Fault] | SearchStrategy[Fault] | None = None,
    cancel: bool = False,
    kills: bool | Iterable[int] = False,
    processes: bool = False,
    exhaustive: int | None = None,
    preempt: bool | Sequence[str] | None = None,
    slow: float = 60,
    **strategies: SearchStrategy[Any],
) -> Callable[[Callable[..., object]], Callable[..., None]]: ...


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
    preempt: bool | Sequence[str] | None = None,
    slow: float = 60,
    **strategies: SearchStrategy[Any],
) -> Any:
    """Search the interleavings of a test body until an invariant breaks, and report how much was searched.

    The body takes ``claude_tokens`` and ``workers`` (both fresh for each schedule), the names of ``strategies``, and
    pytest fixtures of module or session scope. For an ``async def`` the workers are tasks of a simulated event loop,
    for a ``def`` threads of which one runs at a time; both in simulated time. With ``processes``, in real time,
    ``workers(argv)`` starts a command in each worker, and the service releases their requests in the schedule's order.

    ``faults``: a list of :class:`fake_server.Fault`, or a strategy of them, that may strike. ``cancel``: workers may
    be cancelled at an await. ``kills``: workers may be killed; for processes a list of signals, or SIGKILL.
    ``exhaustive``: run every schedule with at most that many deviations from default order, instead of drawing.
    ``preempt``: whether the threads of a ``def`` may lose their turn between any two accesses of the author's own code
    (by default they may), or a list of installed packages in which they may, too.
    ``slow``: the most simulated seconds by which the search may hold up workers and replies together in one run: a
    lease that is to survive a slower worker needs a larger number here. With 0 nothing is held up.
    Hypothesis drives the search: ``@settings``, ``@example``, ``@reproduce_failure`` and the example database work.

    Raises the first violation of the shortest failing schedule; ``NothingRaced`` where no two workers ever overlapped;
    and ``Nondeterministic`` where two runs of one schedule differ.
    """
    if bare is not None or callable(workers):
        raise TypeError("write @explore(), or @explore(workers=4): it takes keywords only")
    options = checked(
        Options(
            workers=workers,
            faults=faults,
            cancel=cancel,
            kills=kills,
            processes=processes,
            exhaustive=exhaustive,
            preempt=preempt,
            slow=slow,
            strategies=strategies,
        )
    )

    def decorate(function: Callable[..., object]) -> Callable[..., None]:
        return _wrapper(planned(function, options))

    return decorate


def _wrapper(plan: Plan) -> Callable[..., None]:
    """The function that pytest collects."""

    @functools.wraps(plan.function)
    def test(*args: Any, **fixtures: Any) -> None:
        __tracebackhide__ = True
        Session(plan, CONTEXT.get() or ExplorationContext(), decorations(test), args, fixtures).run()

    # Hide the body from pytest: plugins for asynchronous tests would run an `async def` body themselves.
    del test.__wrapped__
    collected: Any = test
    collected.place_as = plan.function  # by this pytest knows in which line the test is
    collected.__signature__ = plan.signature()
    collected.is_hypothesis_test = True
    collected.is_claude_tokens_exploration = True
    collected.hypothesis = Property(plan.schedules, plan.strategies, plan.identity, _run_by_fuzzer(plan)).handle
    return test


def _run_by_fuzzer(plan: Plan) -> Callable[[Schedule, Mapping[str, Any]], None]:
    """One run outside of any search, for a fuzzer such as HypoFuzz that draws schedules and arguments itself."""

    def run(schedule: Schedule, arguments: Mapping[str, Any]) -> None:
        with stage(plan, ExplorationContext()) as execute:
            outcome = execute(schedule, arguments)
        if outcome.error is not None:
            raise outcome.error

    return run
