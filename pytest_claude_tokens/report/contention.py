"""Calls that met on one bearer, meeting by meeting: who came when, how long each took, and how long it had waited.

A *trial* is a time in which a bearer was never without an open call; the script of anthropics/claude-code#54999 makes
ten of them on one token, and ten times two on two.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pytest_claude_tokens.report.table import WIDTH

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["meetings", "trials"]

_SHOWN = 40
"""Meetings that are listed; further ones are counted."""


def meetings(history: History) -> list[list[Operation]]:
    """The calls of each meeting of two workers or more on one bearer, in the order of their arrival.

    Under the policy's ``key="account"``, on one account.
    """
    by_account = history.policy.get("key") == "account"
    lanes: dict[object, list[list[Operation]]] = {}
    for op in history.operations:
        if op.f == "call" and op.bearer not in (None, "unknown"):
            groups = lanes.setdefault(op.account if by_account else (op.grant, op.bearer), [])
            if groups and any(one.closed is None or one.closed > op.opened for one in groups[-1]):
                groups[-1].append(op)
            else:
                groups.append([op])
    found = [group for groups in lanes.values() for group in groups if len({op.actor for op in group}) > 1]
    return sorted(found, key=lambda group: group[0].opened)


def trials(history: History) -> list[str]:
    """A line for each meeting, under one that counts them; nothing where there was none."""
    waited = {event.op: event.get("waited") for event in history.noted("queue")}
    found = meetings(history)
    lines = [f"claude-tokens: {len(found)} time{'s' * (len(found) > 1)} workers met on one bearer"] if found else []
    for number, group in enumerate(found[:_SHOWN], 1):
        label = history.label(group[0].grant, group[0].bearer)
        told = "; ".join(_told(op, waited.get(op.op)) for op in group)
        head = f"  trial {number:>2}  {label}  "
        lines += textwrap.wrap(told, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more")
    return lines


def _told(op: Operation, waited: float | None) -> str:
    took = "still open" if op.end is None else f"{op.end.t - op.invoke.t:.2f} s"
    return f"{op.actor} {took}" if waited is None else f"{op.actor} {took}, waited {waited:.2f} s"
