"""Holds every request of the worker processes, before the check and after the commit, and releases one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from fake_server.effects import Signal, Wait

if TYPE_CHECKING:
    from fake_server.exchange import Exchange
    from fake_server.server import Server

__all__ = ["Held", "RequestGate"]


@dataclass(slots=True, eq=False)
class Held:
    """A held request: before the check (``request``) or after the commit (``reply``)."""

    exchange: Exchange
    why: str
    signal: Signal = field(default_factory=Signal)


class RequestGate:
    """Called by listeners at each wait. Holds nothing before :meth:`hold`. ``events`` counts arrivals and releases."""

    def __init__(self) -> None:
        self.events: int = 0
        self._held: list[Held] = []
        self._lock = Lock()
        self._open = True

    def hold(self) -> None:
        """Start to hold requests."""
        with self._lock:
            self._open = False

    def hold_at_leg(self, exchange: Exchange, wait: Wait) -> Wait:
        """Between :meth:`hold` and :meth:`open`, hold the exchange at its network legs; other waits are unchanged."""
        if wait.why not in ("request", "reply"):
            return wait
        with self._lock:
            self.events += 1
            if self._open:
                return wait
            held = Held(exchange, wait.why)
            self._held.append(held)
            return Wait(wait.why, None, held.signal)

    def pending(self, server: Server) -> list[Held]:
        """The requests held now, in order of arrival; those whose client has disconnected are dropped."""
        with server.lock, self._lock:
            self._held = [held for held in self._held if held.exchange.op in server.open]
            return list(self._held)

    def release(self, server: Server, held: Held) -> None:
        """Let one request go on."""
        with self._lock:
            self.events += 1
            self._held.remove(held)
        with server.lock:
            held.signal.fire()

    def open(self, server: Server) -> None:
        """Stop holding, and let all held requests go on."""
        with self._lock:
            self._open = True
            held, self._held = self._held, []
        with server.lock:
            for one in held:
                one.signal.fire()
