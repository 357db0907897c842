"""What a connection asks of the one that accepted it: a listener on a socket, or a network in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fake_server.effects import Wait
    from fake_server.exchange import Exchange
    from fake_server.protocol.wire import Request
    from fake_server.server import Server

    WaitHook = Callable[[Exchange, Wait], Wait]
    """Says what an exchange is to wait for in place of what it asked for. Called in the event loop's thread."""

    LocalHandler = Callable[[Request], "Local | None"]
    """Answers requests that are not for the service; ``None`` leaves a request to the service."""

__all__ = ["Accepted", "Host", "Local"]


@dataclass(frozen=True, slots=True)
class Local:
    """The reply of a local handler to a request that is not for the service: it is no operation, and not journalled."""

    status: int
    body: bytes
    kind: str = "application/json"


class Accepted(Protocol):
    """A connection, as far as its host must know it."""

    transport: asyncio.Transport

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        ...

    def leave(self, error: str | None = None) -> None:
        """Abandon what is under way; ``error`` says why, if it is not the client's doing."""
        ...


class Host(Protocol):
    """Where connections are accepted. All is asked for in the thread of ``loop``."""

    server: Server
    loop: asyncio.AbstractEventLoop
    connections: set[Accepted]
    draining: bool
    """Nothing new is taken on: each connection ends with the reply that is under way."""

    def answers(self, host: str) -> bool:
        """Whether requests for ``host`` are served here."""
        ...

    def wait_hook(self, exchange: Exchange, wait: Wait) -> Wait:
        """What ``exchange`` is to wait for where it asked for ``wait``."""
        ...

    def local(self, request: Request) -> Local | None:
        """The reply to a request that is not for the service."""
        ...

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Run ``function`` in the thread of ``loop``, from any thread."""
        ...
