"""Overlaps: periods in which calls of several workers were open on one bearer.

The checker of ``co-schedule`` and the list that ``claude-tokens run`` prints share this definition.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["overlaps"]


def overlaps(history: History) -> Iterator[list[Operation]]:
    """The calls of each overlap, in the order of their arrival; bearer by bearer.

    An *overlap* is a period in which a call on the bearer was always open, and calls of two or more workers were. A
    call is open from its arrival to its end, its wait in the service's queue included. Under the policy's
    ``key="account"``, all bearers of one account count as one. Bearers that were not minted here are ignored, and so
    are calls whose bearer was dead on arrival: they are refused at once, and take no place in the queue.
    """
    queue_of = _by_account(history) if history.policy.get("key") == "account" else _by_bearer
    queues: dict[object, list[Operation]] = {}
    for op in history.operations:
        invoke = op.invoke
        if invoke.f == "call" and invoke.bearer not in (None, "unknown") and "dead" not in invoke.data:
            queues.setdefault(queue_of(op), []).append(op)
    for calls in queues.values():
        if len(calls) > 1:
            for together in _without_pause(calls):
                if len(together) > 1 and len({op.invoke.actor for op in together}) > 1:
                    yield together


def _without_pause(calls: list[Operation]) -> Iterator[list[Operation]]:
    """``calls``, in order, split at each moment when none of them was open."""
    together: list[Operation] = []
    until: float = -math.inf
    for call in calls:
        if together and call.invoke.seq > until:
            yield together
            together, until = [], -math.inf
        together.append(call)
        until = max(until, math.inf if call.end is None else call.end.seq)
    yield together


def _by_bearer(op: Operation) -> object:
    return op.invoke.grant, op.invoke.bearer


def _by_account(history: History) -> Callable[[Operation], object]:
    """A function that returns the account of an operation.

    A history that we did not write may omit the account. Then another event of the grant gives it; a grant without any
    counts as an account of its own.
    """
    accounts: dict[str | None, str] = {}
    for event in history.events:
        if event.grant is not None and event.account is not None:
            accounts.setdefault(event.grant, event.account)

    def account(op: Operation) -> object:
        name = op.account or accounts.get(op.grant)
        if name is not None:
            return name
        return _by_bearer(op) if op.grant is None else (op.grant,)

    return account
