"""What the tests of the in-process transport share: a service, both client libraries, and simulated time."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import httpx2

from fake_server.clock import Clock, stopwatch
from fake_server.policy import Policy
from fake_server.server import Server
from fake_server.transports.inprocess import Destination, Interceptor, RealWaiter

if TYPE_CHECKING:
    from fake_server.effects import Wait

CALL = "https://api.anthropic.com/v1/messages"
TOKEN = "https://platform.claude.com/v1/oauth/token"
HELLO = "https://api.anthropic.com/api/hello"
LIBRARIES = [httpx, httpx2]
MODES = ["sync", "async"]
_TLS = ssl.create_default_context()  # one for all: it takes longer to make than all the rest of a test


class SimulatedWaiter:
    """Time that passes only by waiting; ``waits`` are all that was waited for. ``drag`` is lost in each moment."""

    def __init__(self, drag: float = 0.0) -> None:
        self.now = 0.0
        self.drag = drag
        self.waits: list[Wait] = []

    def stopwatch(self) -> float:
        return self.now

    def wait(self, wait: Wait) -> None:
        self.waits.append(wait)
        self.now += self.drag if wait.seconds is None else wait.seconds

    def suspended(self) -> float:
        return 0.0

    async def wait_async(self, wait: Wait) -> None:
        self.wait(wait)
        await asyncio.sleep(0)


class World:
    """One service with one account, and what reached it."""

    def __init__(self, *, waiter: Any = None, hosts: tuple[str, ...] = (), **policy: Any) -> None:
        read = waiter.stopwatch if waiter is not None else stopwatch()
        self.server = Server(Policy.preset("anthropic").but(**policy), Clock(), read, namespace="test")
        self.grant = self.server.login("a")
        self.target: Destination | None = Destination(self.server, waiter or RealWaiter())
        self.interceptor = Interceptor(lambda: self.target, hosts=hosts)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.grant.access[0].secret}"}

    @property
    def refresh(self) -> dict[str, str]:
        """The body of a token request."""
        secret = self.grant.refresh[-1].secret
        return {"grant_type": "refresh_token", "refresh_token": secret, "client_id": "test"}

    def message(self, text: str = "hi", *, stream: bool = False) -> dict[str, Any]:
        """The arguments of a call."""
        body = {"stream": stream, "messages": [{"role": "user", "content": f"Reply: {text}"}]}
        return {"json": body, "headers": self.headers}

    def events(self, *types: str) -> list[Any]:
        """The operations' events of these types, or all."""
        wanted = types or ("invoke", "ok", "fail", "info")
        return [event for event in self.server.journal.events if event.type in wanted]

    def story(self) -> list[tuple[str, str | None]]:
        """Type and error of each operation's events."""
        return [(event.type, event.error) for event in self.events()]


def ask(library: Any, mode: str, method: str, url: str, *, client: dict[str, Any] | None = None, **more: Any) -> Any:
    """One request by a client of its own, with its body read."""
    if mode == "sync":
        with library.Client(verify=_TLS, **(client or {})) as session:
            return session.request(method, url, **more)

    async def main() -> Any:
        async with library.AsyncClient(verify=_TLS, **(client or {})) as session:
            return await session.request(method, url, **more)

    return asyncio.run(main())
