"""Checks the arguments of ``explore()`` and makes a plan of them and the decorated function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from hypothesis.strategies import SearchStrategy

from fake_server.secrecy import brief, is_name, shown
from pytest_claude_tokens.runs.process_runner import default_signals
from pytest_claude_tokens.search.strategy import (
    ProcessScheduleStrategy,
    ScheduleStrategy,
    fault_strategy,
    process_schedules,
    schedules,
)
from pytest_claude_tokens.simulation.scheduler import MAX_SECONDS, SLOW_SECONDS
from pytest_claude_tokens.simulation.tested_code import NotInstalled, TestedCode, folders_of

if TYPE_CHECKING:
    from fake_server.faults import Fault
    from pytest_claude_tokens.simulation.schedule import DeviationKind

__all__ = ["GIVEN", "Options", "Plan", "WorkerKind", "checked", "planned"]

_NUMBERS = ("schedules", "max_schedules", "examples", "max_examples", "runs", "max_runs", "iterations", "budget")
_SEEDS = ("seed", "seeds", "random_seed")
"""Names under which somebody may look for what Hypothesis has an own decorator for."""
GIVEN = ("claude_tokens", "workers")
"""The arguments that a body receives anew for each schedule."""

WorkerKind = Literal["tasks", "threads", "processes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of ``explore()``; its docstring explains them."""

    workers: int
    faults: Sequence[Fault] | SearchStrategy[Fault] | None = None
    cancel: bool = False
    kills: bool | Iterable[int] = False
    processes: bool = False
    exhaustive: int | None = None
    preempt: bool | Sequence[str] | None = None
    slow: float = SLOW_SECONDS
    strategies: Mapping[str, SearchStrategy[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A body, and the schedules and arguments to try on it.

    ``schedules`` draws schedules, ``strategies`` the body's own arguments, in the order of its parameters.
    ``exhaustive``: the bound of a systematic search, which draws nothing. ``deaths``: whether workers are cancelled or
    killed. ``slow``: the simulated seconds by which a schedule may hold up workers and replies. ``preempt``: the code
    in which threads may lose their turn between two accesses.
    """

    function: Callable[..., Any]
    workers: int
    kind: WorkerKind
    schedules: ScheduleStrategy | ProcessScheduleStrategy
    strategies: Mapping[str, SearchStrategy[Any]]
    exhaustive: int | None
    deaths: bool = False
    preempt: TestedCode | None = None
    slow: float = SLOW_SECONDS

    @property
    def lone(self) -> ScheduleStrategy | None:
        """The strategy of schedules where nothing else is drawn: a search may make them as it likes."""
        drawn = self.schedules
        return drawn if isinstance(drawn, ScheduleStrategy) and drawn.integers_only and not self.strategies else None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the strategies, as stored in a replay token."""
        return tuple(sorted(self.strategies))

    @property
    def identity(self) -> str:
        """The name by which Hypothesis tells this test from others."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def repeatable(self) -> bool:
        """Whether a schedule decides everything. It does not with processes, which the operating system schedules."""
        return self.kind != "processes"

    def signature(self) -> inspect.Signature:
        """The body's signature without the arguments that a search provides: pytest must provide the rest."""
        signature = inspect.signature(self.function)
        given = {*GIVEN, *self.strategies}
        return signature.replace(parameters=[p for name, p in signature.parameters.items() if name not in given])


def checked(options: Options) -> Options:
    """The options, validated and normalized. Raises ``TypeError`` or ``ValueError`` for values that fit no body."""
    workers, exhaustive = options.workers, options.exhaustive
    if type(workers) is not int or workers < 1:
        raise ValueError(f"explore(workers={shown(workers)}): must be a number of workers, 1 or more")
    if exhaustive is not None:
        if options.processes or options.strategies or options.faults is not None or options.kills or options.cancel:
            raise TypeError(
                "explore(exhaustive=…) is systematic: it takes no strategies, faults, cancel, kills or processes"
            )
        if type(exhaustive) is not int or exhaustive < 0:
            raise ValueError(f"explore(exhaustive={shown(exhaustive)}): must be a number of deviations, 0 or more")
    _check_slow(options)
    for name, strategy in options.strategies.items():
        if not isinstance(strategy, SearchStrategy):
            raise TypeError(f"explore({brief(name)}={shown(strategy)}): {_instead(name, strategy)}")
        if not is_name(name):
            raise TypeError(f"explore({brief(name)}=…): a further keyword is the name of an argument of the test")
    _check_packages(options.preempt)
    for name, switch in (("cancel", options.cancel), ("processes", options.processes)):
        if not isinstance(switch, bool):
            raise TypeError(f"explore({name}={shown(switch)}): must be True or False")
    if isinstance(options.kills, str | bytes):
        raise TypeError(f"explore(kills={shown(options.kills)}): must be True or False, or a list of signals")
    if not isinstance(options.kills, bool) and not options.processes:
        raise TypeError("explore(kills=[…]) names signals: it needs processes=True; elsewhere it is kills=True")
    # Read now: an error raised at decoration would have frames of `explore()`, and show their locals.
    kills = default_signals(options.kills) if options.processes else options.kills
    return replace(options, faults=fault_strategy(options.faults), kills=kills)


def _instead(name: str, value: object) -> str:
    """What to write in place of a keyword that is neither an option nor a strategy."""
    if name in _NUMBERS:
        return "how many schedules are run is said by @settings(max_examples=…) of Hypothesis, above or below @explore"
    if name in _SEEDS:
        return "a search is repeated by pytest --claude-tokens-seed=…, or by @seed(…) of Hypothesis"
    meant = f"{brief(name)}=st.just({shown(value)})"
    if near := get_close_matches(name, [one.name for one in fields(Options) if one.name != "strategies"], n=1):
        return f"did you mean {near[0]}? A further keyword is an argument's strategy, such as {meant}"
    return f"a further keyword is an argument's strategy, such as {meant}"


def _check_slow(options: Options) -> None:
    slow = options.slow
    if type(slow) not in (int, float) or not 0 <= slow <= MAX_SECONDS:
        raise ValueError(
            f"explore(slow={shown(slow)}): must be the seconds by which a run may be held up, from 0 to {MAX_SECONDS:g}"
        )
    if options.processes and slow != SLOW_SECONDS:
        raise TypeError("explore(slow=…) is about simulated time: with processes=True time is real")


def planned(function: Callable[..., Any], options: Options) -> Plan:
    """The plan for ``function``. Raises ``TypeError`` if the options don't fit it."""
    _check_body(function, options)
    deaths: list[DeviationKind] = []
    if options.cancel:
        deaths.append("cancel")
    if options.kills:
        deaths.append("kill")
    drawn: ScheduleStrategy | ProcessScheduleStrategy
    if options.processes:
        drawn = process_schedules(options.workers, faults=options.faults, signals=default_signals(options.kills))
    else:
        drawn = schedules(options.workers, faults=options.faults, deaths=deaths, slow=options.slow)
    strategies = _in_order(function, options.strategies)
    kind: WorkerKind = (
        "processes" if options.processes else "tasks" if inspect.iscoroutinefunction(function) else "threads"
    )
    return Plan(
        function=function,
        workers=options.workers,
        kind=kind,
        schedules=drawn,
        strategies=strategies,
        exhaustive=options.exhaustive,
        deaths=bool(deaths),
        preempt=_tested_code(options, kind),
        slow=options.slow,
    )


def _check_body(function: Callable[..., Any], options: Options) -> None:
    asynchronous = inspect.iscoroutinefunction(function)
    if hasattr(function, "hypothesis"):
        raise TypeError("explore() stands in for @given: give it the strategies, as in @explore(n=st.integers())")
    if options.cancel and not asynchronous:
        raise TypeError("explore(cancel=True) cancels tasks: it needs an async def")
    if options.preempt not in (None, False) and (asynchronous or options.processes):
        raise TypeError(
            f"explore(preempt={shown(options.preempt)}) is for threads, which may lose their turn between two lines: "
            "it needs a def without processes=True; there is nothing to preempt between two awaits"
        )
    if options.processes and asynchronous:
        raise TypeError("explore(processes=True) needs a def: its workers are commands")


def _tested_code(options: Options, kind: WorkerKind) -> TestedCode | None:
    """The code under test, where threads are to be preempted."""
    if kind != "threads" or options.preempt is False:
        return None
    packages = options.preempt if isinstance(options.preempt, Sequence) else ()
    return TestedCode(folder for package in packages for folder in folders_of(package))


def _check_packages(preempt: bool | Sequence[str] | None) -> None:
    """Refuse what is neither a switch nor a list of packages that are there."""
    if preempt is None or isinstance(preempt, bool):
        return
    if isinstance(preempt, str | bytes) or not isinstance(preempt, Sequence):
        raise TypeError(f"explore(preempt={shown(preempt)}): must be True or False, or a list of packages")
    for package in preempt:
        if not isinstance(package, str):
            raise TypeError(f'explore(preempt=[{shown(package)}]): a package is a name, such as "mypool"')
        try:
            folders_of(package)
        except NotInstalled:
            raise ValueError(f"explore(preempt=[{shown(package)}]): no package of that name is installed") from None


def _in_order(
    function: Callable[..., Any], strategies: Mapping[str, SearchStrategy[Any]]
) -> dict[str, SearchStrategy[Any]]:
    """The strategies in the order of the function's parameters, so that ``@example`` may give values by position."""
    order = list(inspect.signature(function).parameters)
    for name in sorted(strategies):
        if name not in order:
            raise TypeError(f"{function.__name__}() has no argument {name}, for which there is a strategy")
        if name in GIVEN:
            raise TypeError(f"{name} is what explore() gives: it takes no strategy")
    return {name: strategies[name] for name in sorted(strategies, key=order.index)}
