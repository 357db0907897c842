"""Tokens of the service in requests that reach no endpoint of it: the test may double another service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.earning import asked
from pytest_claude_tokens.judge.verdict import Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_claude_tokens.judge.history import History

__all__ = ["notes_on_places"]

_NOWHERE = ("not an endpoint", "is not served")


def notes_on_places(history: History) -> Iterator[Note]:
    """A note for each such token; that of a refresh token keeps the verdict from being VALID."""
    for op in history.operations:
        why = str(op.invoke.get("unjudged") or "")
        if not any(words in why for words in _NOWHERE):
            continue
        if op.refresh not in (None, "unknown"):
            label = history.label(op.grant, op.refresh)
            remedy = "say which service it is: service=..., or Service.oauth(token=...)"
            yield Note("unserved", f"{label} by {op} to {asked(op)}: {why}; {remedy}")
        elif op.bearer not in (None, "unknown"):
            yield Note("elsewhere", f"{history.label(op.grant, op.bearer)} by {op} to {asked(op)}: {why}")
