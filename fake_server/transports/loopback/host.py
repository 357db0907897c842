"""The interface between a connection and its host, which accepted it: a listener, or a network in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from fake_server.effects import Wait
    from fake_server.exchange import Exchange
    from fake_server.protocol.wire import Request
    from fake_server.server import Server

    WaitHook = Callable[[Exchange, Wait], Wait]
    """May replace the wait that an exchange has yielded. Called in the event loop's thread."""

    Address = tuple[str, int]
    """Host and port of one end of a connection; over IPv6 more follows."""

    Namer = Callable[[Request, str, Address, Address], str]
    """Returns the worker that sent a request, from the connection's name and the addresses of client and server."""

    LocalHandler = Callable[[Request], "Local | None"]
    """Answers requests that are not for the service; ``None``: the request is for the service."""

__all__ = ["Accepted", "Host", "Local"]


@dataclass(frozen=True, slots=True)
class Local:
    """A local handler's reply to a request that is not for the service; such a request is not journalled.

    A long ``body`` comes in pieces, each made when the client has taken those before it.
    """

    status: int
    body: bytes | Iterator[bytes]
    kind: str = "application/json"


class Accepted(Protocol):
    """The part of a connection that its host uses."""

    transport: asyncio.Transport
    name: str

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        ...

    def leave(self, error: str | None = None) -> None:
        """Abandon the exchange under way; ``error``: the reason, if the client is not the cause."""
        ...


class Host(Protocol):
    """The host of connections. All methods except :meth:`call` are called in the thread of ``loop``."""

    server: Server
    loop: asyncio.AbstractEventLoop
    connections: set[Accepted]
    draining: bool
    """Whether no new requests are accepted: each connection ends with its current reply."""
    remedy: str
    """How a client whose request was refused, because of its host, is answered after all."""

    def answers(self, host: str, port: int | None) -> bool:
        """Whether requests for that host and port, sent to us as to a proxy, are served here."""
        ...

    def wait_hook(self, exchange: Exchange, wait: Wait) -> Wait:
        """The wait that ``exchange`` must perform in place of ``wait``."""
        ...

    def actor(self, request: Request, connection: Accepted) -> str:
        """The worker that sent ``request``."""
        ...

    def local(self, request: Request) -> Local | None:
        """The reply to a request that is not for the service; ``None`` for any other."""
        ...

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Run ``function`` in the thread of ``loop``, from any thread."""
        ...
