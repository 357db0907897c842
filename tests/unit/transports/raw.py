"""Clients and helpers for the tests of the loopback transports: what is sent is exactly what is written here."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fake_server.clock import Clock, stopwatch
from fake_server.events import Event
from fake_server.policy import Policy
from fake_server.server import Server
from fake_server.transports.sockets import SocketServer

PATIENCE = 20.0
"""Seconds after which a test gives up: only a failure takes so long."""


def a_server(policy: Policy | None = None) -> Server:
    """A service on the real clock."""
    return Server(policy or Policy(), Clock(), stopwatch(), namespace="raw")


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)


@dataclass
class Raw:
    """One connection."""

    sock: socket.socket
    rest: bytes = b""
    interim: int = field(default=0)

    def send(self, *data: bytes) -> None:
        for part in data:
            self.sock.sendall(part)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(self.rest)
        self.rest += data

    def take(self, end: bytes) -> bytes:
        """Everything up to ``end``."""
        while end not in self.rest:
            self._more()
        found, _, self.rest = self.rest.partition(end)
        return found

    def take_bytes(self, count: int) -> bytes:
        while len(self.rest) < count:
            self._more()
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    def head(self) -> tuple[int, dict[str, str]]:
        """The next head that is not an interim one."""
        while True:
            line, *lines = self.take(b"\r\n\r\n").decode("latin-1").split("\r\n")
            status = int(line.split(" ")[1])
            if status != 100:
                return status, {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
            self.interim += 1

    def reply(self, *, bodiless: bool = False) -> Reply:
        status, headers = self.head()
        if bodiless:
            body = b""
        elif "content-length" in headers:
            body = self.take_bytes(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.take(b"\r\n"), 16):
                body += self.take_bytes(size + 2)[:-2]
            self.take(b"\r\n")
        else:
            body = self.to_the_end()
        return Reply(status, headers, body)

    def to_the_end(self) -> bytes:
        """All that comes until the server closes. Raises ``ConnectionResetError`` where it resets."""
        while data := self.sock.recv(65536):
            self.rest += data
        found, self.rest = self.rest, b""
        return found


@contextmanager
def raw(port: int, host: str = "127.0.0.1") -> Iterator[Raw]:
    """A connection to the port."""
    with socket.create_connection((host, port), timeout=PATIENCE) as sock:
        yield Raw(sock)


def request(
    method: str, target: str, body: bytes = b"", *headers: str, version: str = "1.1", host: str = "127.0.0.1"
) -> bytes:
    """A request with its length."""
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *length, *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def token_body(refresh_token: str) -> bytes:
    return json.dumps({"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "raw"}).encode()


def token_request(refresh_token: str, *headers: str, target: str = "/v1/oauth/token", version: str = "1.1") -> bytes:
    return request("POST", target, token_body(refresh_token), *headers, version=version)


def call_body(*, stream: bool = False, text: str = "A") -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": f"Reply: {text}"}], "stream": stream}).encode()


def call(bearer: str, *headers: str, stream: bool = False, text: str = "A", version: str = "1.1") -> bytes:
    body = call_body(stream=stream, text=text)
    return request("POST", "/v1/messages", body, f"Authorization: Bearer {bearer}", *headers, version=version)


class Watch:
    """Waits for something to be journalled."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._changed = threading.Condition()
        server.journal.observers.append(self._notify)

    def _notify(self, _: Event) -> None:
        with self._changed:
            self._changed.notify_all()

    def until(self, enough: Callable[[list[Event]], bool]) -> list[Event]:
        """The events, as soon as they are ``enough``."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.server.journal.events), PATIENCE), "it never came"
            return list(self.server.journal.events)

    def of(self, *types: str, count: int = 1) -> list[Event]:
        """The first events of these types, as soon as there are ``count``."""

        def found(events: list[Event]) -> list[Event]:
            return [event for event in events if event.type in types]

        return found(self.until(lambda events: len(found(events)) >= count))


def invokes(server: Server) -> list[Event]:
    """The requests that have arrived."""
    return [event for event in server.journal.events if event.type == "invoke"]


def meanwhile(listener: SocketServer) -> None:
    """Come back when the loop has seen all that was sent to it before."""
    done = threading.Event()
    turns = iter(range(3))

    def turn() -> None:
        if next(turns, None) is None:
            done.set()
        else:
            listener.call(turn)

    listener.call(turn)
    assert done.wait(PATIENCE)
