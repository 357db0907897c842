"""A workaround as a body to explore: the situations it is put in, and what its workers do there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.search.alone import run_once
from pytest_claude_tokens.search.explore import explore
from pytest_claude_tokens.workarounds.registry import of_class

if TYPE_CHECKING:
    from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
    from pytest_claude_tokens.workarounds.registry import Workaround

__all__ = ["WORKERS", "Run", "Situation", "as_test", "explored", "refreshes", "situations_of"]

WORKERS = 3
"""Workers of one search: with two, no job can outlive a whole round of the others."""
JOBS = 2
"""Jobs of each worker."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the workers find: so many ``accounts``, whose access tokens are live or have all ``expired``."""

    name: str
    accounts: int
    expired: bool

    @property
    def scarce(self) -> bool:
        """Whether there are fewer accounts than workers because we want to know what happens then."""
        return self.name.startswith("scarce")

    def text(self) -> str:
        """In words."""
        logins = "expired" if self.expired else "live"
        return f"{self.accounts} {logins} login{'s' * (self.accounts != 1)} for {WORKERS} workers"


def situations_of(workaround: Workaround) -> list[Situation]:
    """Live logins, and one fewer of them than there are workers; the same with expired ones, if it refreshes any."""
    many = workaround.accounts or WORKERS
    numbers = {"": many} if workaround.accounts else {"": many, "scarce": many - 1}
    found = [Situation(name or "live", number, expired=False) for name, number in numbers.items()]
    if refreshes(workaround):
        found += [Situation(f"{name}-expired".strip("-"), number, expired=True) for name, number in numbers.items()]
    return found


def refreshes(workaround: Workaround) -> bool:
    """Whether it sends a token request where all its logins have expired; if not, that is not its business."""
    expired = Situation("expired", workaround.accounts or WORKERS, expired=True)
    body = _body(workaround, expired, tolerant=True)
    return any(operation.f == "token" for operation in run_once(body, WORKERS).history.operations)


class Run:
    """One run of a dispatcher."""

    def __init__(self, tokens: ClaudeTokens, workaround: Workaround, situation: Situation) -> None:
        accounts = [tokens.account(expired=situation.expired) for _ in range(situation.accounts)]
        takes_tokens = getattr(workaround.dispatcher, "takes_tokens", False)
        self.tokens = tokens
        self.situation = situation
        self.dispatcher = workaround.dispatcher(accounts, *([tokens] if takes_tokens else []))
        self.faulty = bool(workaround.faults) or workaround.cancel
        self.errors: list[Exception] = []

    async def job(self) -> None:
        """One job of a task."""
        try:
            await self.dispatcher.call()
        except Exception as error:
            self.errors.append(error)

    def job_in_thread(self) -> None:
        """One job of a thread."""
        try:
            self.dispatcher.call()
        except Exception as error:
            self.errors.append(error)

    def end(self, *, tolerant: bool = False) -> None:
        """Raise what a job raised, unless that is tolerated, or failures are in play."""
        if self.errors and not tolerant and not self.faulty:
            raise self.errors[0]


def _body(workaround: Workaround, situation: Situation, *, tolerant: bool = False) -> Callable[..., object]:
    async def in_tasks(claude_tokens: Any, workers: Any) -> None:
        run = Run(claude_tokens, workaround, situation)
        await workers(run.job, per_worker=JOBS)
        run.end(tolerant=tolerant)

    def in_threads(claude_tokens: Any, workers: Any) -> None:
        run = Run(claude_tokens, workaround, situation)
        workers(run.job_in_thread, per_worker=JOBS)
        run.end(tolerant=tolerant)

    return in_tasks if workaround.kind == "tasks" else in_threads


def explored(workaround: Workaround, situation: Situation, *, tolerant: bool = False) -> Callable[[], None]:
    """The explored test of a workaround in one situation. ``tolerant``: what a job raises is no failure."""
    return _explore(_body(workaround, situation, tolerant=tolerant), workaround, situation.name)


def as_test(cls: type[Any]) -> Callable[..., None]:
    """A pytest test of a class that ``@workaround`` has decorated, with one parameter for each situation.

        test_my_pool = as_test(MyPool)

    It fails with the first invariant that breaks, as any explored test does. The class is tried once, to see whether
    it refreshes logins. Raises ``ValueError`` for a class that was not decorated.
    """
    import pytest

    workaround = of_class(cls)

    async def in_tasks(claude_tokens: Any, workers: Any, situation: Situation) -> None:
        run = Run(claude_tokens, workaround, situation)
        await workers(run.job, per_worker=JOBS)
        run.end()

    def in_threads(claude_tokens: Any, workers: Any, situation: Situation) -> None:
        run = Run(claude_tokens, workaround, situation)
        workers(run.job_in_thread, per_worker=JOBS)
        run.end()

    test = _explore(in_tasks if workaround.kind == "tasks" else in_threads, workaround, "test")
    test.__doc__ = workaround.summary
    situations = [pytest.param(situation, id=situation.name) for situation in situations_of(workaround)]
    marked: Callable[..., None] = pytest.mark.parametrize("situation", situations)(test)
    return marked


def _explore(body: Callable[..., object], workaround: Workaround, what: str) -> Callable[..., None]:
    body.__qualname__ = f"{workaround.name}[{what}]"  # by which Hypothesis tells one test from another
    return explore(workers=WORKERS, faults=workaround.faults or None, cancel=workaround.cancel)(body)
