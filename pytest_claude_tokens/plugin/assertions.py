"""What a failed ``assert a == b`` says of violations and histories."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from pytest_claude_tokens.handle.history_view import HistoryView
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.violations import Violation
from pytest_claude_tokens.judge.wording import count
from pytest_claude_tokens.report.table import describe
from pytest_claude_tokens.report.verdict import qualified_name
from pytest_claude_tokens.report.wording import one_line

__all__ = ["compare"]


def compare(left: object, right: object) -> list[str] | None:
    """The lines for ``left == right``; ``None`` where neither is ours: pytest explains it then."""
    if _is_history(left) and _is_history(right):
        return _histories(left, right)
    for found, other in ((left, right), (right, left)):
        if _is_violations(found) and isinstance(other, list | tuple):
            return _violations(found, other)
    return None


def _is_history(value: object) -> bool:
    return isinstance(value, History | HistoryView)


def _is_violations(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Violation) for one in value)


def _violations(found: Any, expected: Any) -> list[str]:
    lines = [f"{count(len(found), 'violation')}, and {len(expected) or 'none'} expected:"]
    for violation in found:
        lines.append(f"  {qualified_name(violation)}: {violation}")
        lines += [f"    why: {violation.cause}"] if violation.cause else []
    return lines


def _histories(left: Any, right: Any) -> list[str]:
    """Where two histories part: all before it is the same."""
    for one, other in zip_longest(left, right):
        if one != other:
            sides = [
                one_line(f"  #{event.seq} {event.actor}: {describe(history, event)}") if event else "  (it has ended)"
                for history, event in ((left, one), (right, other))
            ]
            return [f"two histories, of {len(left.events)} and {len(right.events)} events, that part at:", *sides]
    return [f"two histories with the same {count(len(left.events), 'event')}, but they are two: compare their events"]
