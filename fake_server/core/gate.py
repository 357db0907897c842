"""The queue of calls on each bearer: first come, first served. Sans-IO.

Modelled on the report in anthropics/claude-code#54999: calls on one bearer are served one after the other, calls on
different bearers do not delay each other. Not thread-safe: the server holds the lock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fake_server.effects import Signal, Wait

if TYPE_CHECKING:
    from fake_server.policy import Policy

__all__ = ["Gate", "Ticket"]


@dataclass(slots=True, eq=False)
class Ticket:
    """One call's place in its queue. ``started``: when it was served; ``overdue``: served as it had waited too long."""

    key: str
    arrived: float
    started: float | None = None
    overdue: bool = False
    signal: Signal = field(default_factory=Signal)


@dataclass(slots=True)
class _Queue:
    """The calls of one key: those being served, the times of the last starts, and those that wait."""

    serving: list[Ticket] = field(default_factory=list)
    starts: deque[float] = field(default_factory=deque)
    waiting: deque[Ticket] = field(default_factory=deque)


class Gate:
    """The queues of all keys under one policy. Times are seconds of one monotonic clock."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._queues: dict[str, _Queue] = {}

    def arrive(self, key: str, now: float) -> Ticket:
        """Join the queue of ``key``."""
        ticket = Ticket(key, now)
        self._queues.setdefault(key, _Queue()).waiting.append(ticket)
        return ticket

    def poll(self, ticket: Ticket, now: float) -> Wait | None:
        """``None`` if ``ticket`` is served from ``now`` on; else the wait before the next :meth:`poll`."""
        queue = self._queues[ticket.key]
        if ticket.started is not None:
            return None
        limit = ticket.arrived + self.policy.queue_limit
        turn = self._turn(queue, ticket, now)
        ticket.overdue = (turn is None or turn > now) and now >= limit
        if ticket.overdue or (turn is not None and turn <= now):
            self._serve(queue, ticket, now)
            return None
        if ticket.signal.fired:
            ticket.signal = Signal()
        until = limit if turn is None else min(limit, turn)
        return Wait("gate", until - now, ticket.signal)

    def leave(self, ticket: Ticket) -> None:
        """Remove a call that has ended, or whose client has disconnected while it waited."""
        queue = self._queues[ticket.key]
        if ticket.started is None:
            queue.waiting.remove(ticket)
        elif ticket in queue.serving:
            queue.serving.remove(ticket)
        self._wake(queue)

    def _turn(self, queue: _Queue, ticket: Ticket, now: float) -> float | None:
        """The time of this ticket's turn; ``None``: unknown until another call leaves."""
        slots = self.policy.slots
        if slots is None:
            return now
        ahead = queue.waiting.index(ticket)
        if self.policy.serialize is None:
            return now if ahead + len(queue.serving) < slots else None
        if ahead >= slots:
            return None
        if len(queue.starts) + ahead < slots:
            return now
        return queue.starts[len(queue.starts) + ahead - slots] + self.policy.serialize

    def _serve(self, queue: _Queue, ticket: Ticket, now: float) -> None:
        queue.waiting.remove(ticket)
        ticket.started = now
        queue.serving.append(ticket)
        queue.starts.append(now)
        # Only to bound memory: `_turn` never looks back further than `slots` starts.
        while self.policy.slots is not None and len(queue.starts) > self.policy.slots:
            queue.starts.popleft()
        self._wake(queue)

    def _wake(self, queue: _Queue) -> None:
        for ticket in queue.waiting:
            ticket.signal.fire()
