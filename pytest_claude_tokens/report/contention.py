"""Lists overlaps of calls on one bearer: when each worker's call came, how long it took, how long it had waited.

The script of anthropics/claude-code#54999 makes ten pairs of calls on one token, and ten pairs on two tokens.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.overlaps import overlaps
from pytest_claude_tokens.judge.wording import count
from pytest_claude_tokens.report.wording import WIDTH

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["contention"]

_LISTED_OVERLAPS = 40
"""Overlaps that are listed; further ones are only counted."""


def contention(history: History) -> list[str]:
    """A line that counts the overlaps, then one for each, in order of time; no lines if there were none."""
    found = sorted(overlaps(history), key=lambda calls: calls[0].opened)
    if not found:
        return []
    waited = {event.op: event.get("waited") for event in history.noted("queue")}
    lines = [f"claude-tokens: calls of several workers overlapped on one bearer {count(len(found), 'time')}"]
    for number, calls in enumerate(found[:_LISTED_OVERLAPS], 1):
        label = history.label(calls[0].grant, calls[0].bearer)
        text = "; ".join(_duration(op, waited.get(op.op)) for op in calls)
        head = f"  overlap {number:>2}  {label}  "
        lines += textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
    if len(found) > _LISTED_OVERLAPS:
        lines.append(f"  and {len(found) - _LISTED_OVERLAPS} more")
    return lines


def _duration(op: Operation, waited: float | None) -> str:
    took = "still open" if op.end is None else f"{op.end.t - op.invoke.t:.2f} s"
    return f"{op.actor} {took}" if waited is None else f"{op.actor} {took}, waited {waited:.2f} s"
