"""Whether a verdict was earned, and what was refused: a history in which nothing was judged proves nothing.

A *judged* request reached an endpoint or a resource of the service, and was understood there. The service says of any
other, in its ``invoke``, why nothing can be concluded from it (``unjudged``).
"""

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

__all__ = ["Missed", "Refusals", "asked", "earned", "missed", "refusals", "told", "told_missed", "unjudged"]

Refusals = Counter[tuple[str, str]]
"""How often what was asked for was refused, by what it was and by the remedy."""


Missed = Counter[tuple[str, str]]
"""How often a request came that could not be judged, by what it was, and by why."""

_LISTED = 5
"""Kinds of such requests that a text lists; further ones are only counted."""


def missed(history: History) -> Missed:
    """The requests from which nothing can be concluded."""
    return Counter((asked(op), why) for op in history.operations if (why := unjudged(op)))


def told_missed(found: Missed) -> list[str]:
    """Each kind of them in one sentence, with its number, the most frequent ones first."""
    texts = [f"{what} ({_times(number)}): {why}" for (what, why), number in found.most_common(_LISTED)]
    further = len(found) - _LISTED
    return [*texts, f"and {further} more kinds of requests"] if further > 0 else texts


def refusals(events: Iterable[Event]) -> Refusals:
    """The refusals among ``events``: of the guard, the proxy and the simulated network."""
    return Counter((_what(event), str(event.get("remedy"))) for event in events if event.f == "refused")


def told(refused: Refusals) -> list[str]:
    """Each kind of refusal in one sentence, with its number and its remedy."""
    return [f"{what} refused ({_times(number)}): {remedy}" for (what, remedy), number in refused.items()]


def earned(history: History, verdict: Verdict) -> Verdict:
    """``verdict``; UNKNOWN in place of VALID if no request was judged."""
    if verdict.state is not State.VALID or any(not unjudged(operation) for operation in history.operations):
        return verdict
    what = "was judged" if history.operations else "reached the service"
    reasons = [
        f"no request {what}, so nothing was proved",
        *told_missed(missed(history)),
        *told(refusals(history.noted("refused"))),
    ]
    note = Note("unearned", "; ".join(reasons))
    return replace(verdict, state=State.UNKNOWN, notes=(*verdict.notes, note))


def unjudged(operation: Operation) -> str:
    """Why nothing can be concluded from a request; empty for one that is judged.

    A file that we did not write may not say so: then a 404 is for an unknown path.
    """
    why = operation.invoke.get("unjudged")
    return str(why or ("no endpoint of the service" if operation.f == "other" and operation.status == 404 else ""))


def asked(operation: Operation) -> str:
    """What a request asked for, and what it was answered."""
    event = operation.invoke
    status = operation.status or "no reply"
    return f"{event.get('method')} {event.get('host') or ''}{event.get('path')} -> {status}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _what(event: Event) -> str:
    host = event.get("host")
    return f"requests to {host}" if host else f"an attempt {event.get('what')}"
