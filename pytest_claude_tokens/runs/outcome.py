"""What is explored, and what came of one run of it, as values; and what every runner does around a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fake_server.server import Server
    from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
    from pytest_claude_tokens.judge.history import History
    from pytest_claude_tokens.simulation.chooser import Chooser
    from pytest_claude_tokens.simulation.schedule import Deviation, DeviationKind, Schedule

__all__ = ["Body", "Outcome", "conclude", "is_failure", "outranking", "plan_faults"]


def is_failure(error: BaseException) -> bool:
    """Whether it says that the body went wrong: any ``Exception``, and ``pytest.fail()``.

    Not what else ends a test (a skip, an interruption), nor the time-out of the plugin of that name, which is not to
    be waited for again.
    """
    if isinstance(error, Exception):
        return True
    kind, traceback = type(error), error.__traceback__
    if (kind.__module__, kind.__qualname__) not in (("_pytest.outcomes", "Failed"), ("builtins", "Failed")):
        return False
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == "pytest_timeout":
            return False
        traceback = traceback.tb_next
    return True


def outranking(found: BaseException | None, error: BaseException | None) -> BaseException | None:
    """What a run ends with: the violation, with what the body died of as its cause, else that alone."""
    if found is None:
        return error
    found.__cause__ = error
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What is explored: the function, how many workers it has, and how each handle is made."""

    function: Callable[..., Any]
    workers: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Literal["tasks", "threads"]:
        """What its workers are."""
        return "tasks" if inspect.iscoroutinefunction(self.function) else "threads"

    def wanted(self) -> frozenset[str]:
        """Which of the arguments that a run provides the function takes."""
        return frozenset({"claude_tokens", "workers"} & set(inspect.signature(self.function).parameters))


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of one run. ``error``: what the test would raise, or ``None``."""

    schedule: Schedule
    error: BaseException | None
    history: History
    raced: bool
    taken: tuple[Deviation, ...]
    decisions: int
    options: tuple[tuple[tuple[DeviationKind, int], ...], ...] = ()

    def fingerprint(self) -> int:
        """Equal for two runs with the same history, whatever their times."""
        return hash(tuple(map(_facts, self.history.events)))

    def shape(self) -> int:
        """Equal for two runs that differ by the order of independent steps only, and can go on in the same ways."""
        sequences: dict[str, list[Any]] = {}
        for event in self.history:
            for key in (event.actor, event.grant):
                if key is not None:
                    sequences.setdefault(key, []).append(_facts(event))
        after = max((deviation.position for deviation in self.schedule.deviations), default=-1)
        return hash((tuple((key, tuple(sequences[key])) for key in sorted(sequences)), self.options[after + 1 :]))

    def lines(self) -> list[str]:
        """The history as the file has it."""
        return [event.to_json() for event in self.history]


def plan_faults(server: Server, schedule: Schedule) -> None:
    """Have ``server`` do to its requests what the schedule plans."""
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
) -> Outcome:
    """What came of a run that has ended. ``error``: what the body died of."""
    return Outcome(
        schedule=schedule,
        error=outranking(tokens.to_raise(error), error),
        history=history,
        raced=raced,
        taken=tuple(chooser.taken),
        decisions=chooser.decision,
        options=tuple(chooser.options or ()),
    )


_facts = attrgetter("actor", "type", "f", "grant", "refresh", "bearer", "status", "error")
