"""Calls that met on one bearer, meeting by meeting: who came when, who waited, and for how long.

A *trial* is a time in which a bearer was never without an open call; the script of anthropics/claude-code#54999 makes
ten of them on one token, and ten times two on two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_claude_tokens.history import History, Operation

__all__ = ["meetings", "trials"]


def meetings(history: History) -> list[list[Operation]]:
    """The calls on each bearer, in groups of those that were open together, in the order of their first arrival."""
    lanes: dict[tuple[str | None, str | None], list[list[Operation]]] = {}
    for operation in history.operations:
        if operation.f == "call" and operation.bearer not in (None, "unknown"):
            groups = lanes.setdefault((operation.grant, operation.bearer), [])
            if groups and any(one.closed is None or one.closed > operation.opened for one in groups[-1]):
                groups[-1].append(operation)
            else:
                groups.append([operation])
    found = [group for groups in lanes.values() for group in groups]
    return sorted(found, key=lambda group: group[0].opened)


def trials(history: History) -> str:
    """One line for each meeting of two workers or more; empty where there was none."""
    waited = {event.op: float(event.get("waited", 0.0)) for event in history.noted("queue")}
    lines: list[str] = []
    for group in meetings(history):
        if len({operation.actor for operation in group}) > 1:
            label = history.label(group[0].grant, group[0].bearer)
            slowed = [f"{one.actor} waited {waited.get(one.invoke.op, 0.0):.2f} s" for one in group[1:]]
            lines.append(f"  trial {len(lines) + 1:>2}  {label}  {group[0].actor} first; {', '.join(slowed)}")
    return "\n".join([f"claude-tokens: {len(lines)} meetings on one bearer", *lines]) if lines else ""
