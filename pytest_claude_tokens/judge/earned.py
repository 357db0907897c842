"""Whether a verdict was earned: a history in which no request could be judged proves nothing.

A *judged* request reached an endpoint or a resource of the service, and was understood there. The service says of any
other, in its ``invoke``, why nothing can be concluded from it (``unjudged``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.verdict import Note, State

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History, Operation
    from pytest_claude_tokens.judge.verdict import Verdict

__all__ = ["Instead", "earned", "instead", "notes_on_places", "told_instead"]

Instead = tuple[str, str, str]
"""What came in place of a judged request: the request, its status, and why it was not judged."""

_LISTED = 5
"""Kinds of such requests that a text lists; further ones are only counted."""
_UNSERVED = ("not an endpoint", "is not served")


def instead(history: History) -> Counter[Instead]:
    """The requests that could not be judged, and what the guard refused, each with its number."""
    found: Counter[Instead] = Counter()
    for op in history.operations:
        if why := op.invoke.get("unjudged"):
            found[_asked(op), str(op.status or "no reply"), str(why)] += 1
    for note in history.noted("refused"):
        found[f"requests to {note.get('host')}", "refused", str(note.get("why") or "the guard refused them")] += 1
    return found


def told_instead(found: Counter[Instead]) -> str:
    """These requests in words, most frequent first; empty if there were none."""
    texts = [
        f"{what} {how} ({count:,} times): {why}" if how == "refused" else f"{what} -> {how} ({count:,} times): {why}"
        for (what, how, why), count in found.most_common(_LISTED)
    ]
    further = len(found) - _LISTED
    return "; ".join([*texts, *([f"and {further} more kinds"] if further > 0 else [])])


def earned(history: History, verdict: Verdict) -> Verdict:
    """``verdict``; UNKNOWN in place of VALID where no request was judged."""
    if verdict.state is not State.VALID or any(not op.invoke.get("unjudged") for op in history.operations):
        return verdict
    what = told_instead(instead(history))
    text = f"no request was judged, so nothing was proved: {what}" if what else _NOTHING_CAME
    return replace(verdict, state=State.UNKNOWN, notes=(*verdict.notes, Note("unearned", text)))


_NOTHING_CAME = "no request reached the service, so nothing was proved"


def notes_on_places(history: History) -> Iterable[Note]:
    """Tokens of the service in requests that reach no endpoint of it: a refresh token keeps the verdict from VALID."""
    for op in history.operations:
        why = str(op.invoke.get("unjudged") or "")
        if not any(words in why for words in _UNSERVED):
            continue
        if op.refresh not in (None, "unknown"):
            label = history.label(op.grant, op.refresh)
            yield Note("unserved", f"{label} by {op} in {_asked(op)}: {why}; say which service it is: service=…")
        elif op.bearer not in (None, "unknown"):
            yield Note("elsewhere", f"{history.label(op.grant, op.bearer)} by {op} in {_asked(op)}: {why}")


def _asked(op: Operation) -> str:
    event = op.invoke
    return f"{event.get('method', '?')} {event.get('host') or ''}{event.get('path', '?')}"
