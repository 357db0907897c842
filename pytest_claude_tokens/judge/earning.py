"""Whether a verdict was earned, and what was refused: a history in which nothing was judged proves nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.verdict import Note, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation
    from pytest_claude_tokens.judge.verdict import Verdict

__all__ = ["Refusals", "earned", "refusals", "told"]

Refusals = Counter[tuple[str, str]]
"""How often what was asked for was refused, by what it was and by the remedy."""


def refusals(events: Iterable[Event]) -> Refusals:
    """The refusals among ``events``: of the guard, the proxy and the simulated network."""
    return Counter((_what(event), str(event.get("remedy"))) for event in events if event.f == "refused")


def told(refused: Refusals) -> list[str]:
    """Each kind of refusal in one sentence, with its number and its remedy."""
    return [f"{what} refused ({_times(number)}): {remedy}" for (what, remedy), number in refused.items()]


def earned(history: History, verdict: Verdict) -> Verdict:
    """``verdict``; UNKNOWN in place of VALID if no request was judged."""
    if verdict.state is not State.VALID or any(map(_judged, history.operations)):
        return verdict
    missed = Counter(_asked(operation) for operation in history.operations)
    reasons = [
        "no request reached the service, so nothing was proved",
        *(f"{what} ({_times(number)}): no endpoint of the service" for what, number in missed.items()),
        *told(refusals(history.noted("refused"))),
    ]
    note = Note("unearned", "; ".join(reasons))
    return replace(verdict, state=State.UNKNOWN, notes=(*verdict.notes, note))


def _judged(operation: Operation) -> bool:
    """Whether it reached an endpoint. A 404 for an unknown path did not."""
    return operation.f != "other" or operation.status != 404


def _asked(operation: Operation) -> str:
    asked = operation.invoke
    return f"{asked.get('method')} {asked.get('host')}{asked.get('path')} -> {operation.status}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _what(event: Event) -> str:
    host = event.get("host")
    return f"requests to {host}" if host else f"an attempt {event.get('what')}"
