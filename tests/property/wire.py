"""A service with one connection in memory, and what it has sent, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from fake_server.clock import Clock
from fake_server.effects import Wait
from fake_server.exchange import Exchange
from fake_server.policy import Policy
from fake_server.protocol.wire import Request
from fake_server.serve.admin import Admin
from fake_server.server import Server
from fake_server.service import Service
from fake_server.transports.loopback.connection import Connection
from fake_server.transports.loopback.host import Local

SERVICES = ("claude", "oauth", "oidc", "mcp")
MOST_TURNS = 10_000
"""Of the loop, for one example: more is a connection that goes on for ever."""


@dataclass
class Timer:
    when: float
    call: tuple[Any, ...]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Runs what is due; time passes only where nothing else is due."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[Any, ...]] = []
        self.timers: list[Timer] = []

    def call_soon(self, *call: Any) -> None:
        self.due.append(call)

    def call_later(self, seconds: float, call: Any, *arguments: Any) -> Any:
        timer = Timer(self.now + seconds, (call, *arguments))
        self.timers.append(timer)
        return timer

    def run(self) -> None:
        for _ in range(MOST_TURNS):
            self.timers = [timer for timer in self.timers if not timer.cancelled]
            if self.due:
                call = self.due.pop(0)
            elif self.timers:
                timer = min(self.timers, key=lambda timer: timer.when)
                self.timers.remove(timer)
                self.now, call = timer.when, timer.call
            else:
                return
            function, *arguments = call
            function(*arguments)
        raise AssertionError("it never comes to rest")


class Wire:
    """A service with one connection, as its own transport, its own host, and a client that reads everything."""

    draining = False
    remedy = ""

    def __init__(self, service: str) -> None:
        self.loop: Any = Loop()
        self.lines: list[str] = []
        clock = Clock(lambda: self.loop.now, kind="virtual")
        policy = Policy() if service == "claude" else Policy.preset("oauth")
        sink: Any = type("Sink", (), {"write": lambda _, text: self.lines.append(text), "flush": lambda _: None})()
        self.server = Server(
            policy, clock, lambda: self.loop.now, namespace="wire", service=Service.preset(service), sink=sink
        )
        self.grant = self.server.login("alice")
        self.admin = Admin(self.server, dict, lambda **asked: {"name": self.server.login(**asked).account})
        self.connections: set[Any] = set()
        self.sent = bytearray()
        self.open = True
        self.connection = Connection(self, "c1")
        self.connection.connection_made(cast("Any", self))

    # The host.

    def answers(self, host: str, port: int | None) -> bool:
        return host == "api.anthropic.com"

    def wait_hook(self, exchange: Exchange, wait: Wait) -> Wait:
        return wait

    def actor(self, asked: Request, connection: Any) -> str:
        return asked.worker or connection.name

    def local(self, asked: Request) -> Local | None:
        return self.admin(asked)

    def call(self, function: Any, *arguments: object) -> None:
        self.loop.call_soon(function, *arguments)

    # The transport.

    def write(self, data: bytes) -> None:
        assert self.open
        self.sent += data

    def write_eof(self) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 1

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        if self.open:
            self.open = False
            self.connection.connection_lost(None)

    abort = close

    # The client.

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if self.open:
                self.connection.data_received(piece)
                self.loop.run()

    def leave(self) -> None:
        if self.open and not self.connection.eof_received():
            self.close()
        self.loop.run()
        self.close()


def replies(data: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each reply. Raises ``ValueError`` or ``IndexError`` for what is none."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        pairs = [field.split(": ", 1) for field in lines]
        headers = dict(pairs)
        assert (version, end, len(headers)) == ("HTTP/1.1", b"\r\n\r\n", len(pairs))
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            size = -1
            while size:
                first, _, data = data.partition(b"\r\n")
                size = int(first, 16)
                body, data = body + data[:size], data[size + 2 :]
        elif status != "100":
            size = int(headers.get("content-length", len(data)))
            assert len(data) >= size
            body, data = data[:size], data[size:]
        if headers.get("content-type") == "application/json":
            json.loads(body)
        found.append((int(status), headers, body))
    return found
