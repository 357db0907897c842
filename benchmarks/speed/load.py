"""Clients on kept-alive connections, each of which rotates a refresh token of its own: raw sockets in one thread."""

from __future__ import annotations

import json
import selectors
import socket
import time

__all__ = ["rate"]

_BEFORE = b'"refresh_token":'


def request_for(path: str, refresh_token: str) -> bytes:
    """A token request."""
    fields = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "speed"}
    body = json.dumps(fields).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client:
    """One connection, and the refresh token that it sends next."""

    def __init__(self, port: int, path: str, token: str, selector: selectors.BaseSelector) -> None:
        self._port = port
        self._path = path
        self._token = token
        self._selector = selector
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self.socket, selectors.EVENT_READ, self)

    def close(self) -> None:
        """Close the connection."""
        self._selector.unregister(self.socket)
        self.socket.close()

    def ask(self) -> None:
        """Send a token request."""
        self.socket.sendall(request_for(self._path, self._token))

    def listen(self) -> None:
        """Read one whole reply, and take the token that it brings; connect again where the server closes after it.

        Raises ``RuntimeError`` if the reply brings no token.
        """
        data = b""
        while not _is_whole(data) and (more := self.socket.recv(65536)):
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        _, found, rest = body.partition(_BEFORE)
        if b" 200 " not in head[:13] or not found:
            raise RuntimeError(f"not a token: {data!r}")
        self._token = rest.split(b'"', 2)[1].decode()
        if head.startswith(b"HTTP/1.0") or b"connection: close" in head.lower():
            self.close()
            self._connect()


def _is_whole(data: bytes) -> bool:
    """Whether no more is to come on a connection that stays open."""
    head, end, body = data.partition(b"\r\n\r\n")
    head = head.lower()
    if b"chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    return bool(end and length) and len(body) >= int(length)


def rate(port: int, path: str, tokens: list[str], *, seconds: float) -> tuple[float, int]:
    """Token requests a second, by as many clients as there are tokens; and how many were answered."""
    with selectors.DefaultSelector() as selector:
        clients = [_Client(port, path, token, selector) for token in tokens]
        for client in clients:
            client.ask()
        answered, started = 0, time.perf_counter()
        while (now := time.perf_counter()) < started + seconds:
            for key, _ in selector.select(1.0):
                key.data.listen()
                key.data.ask()
                answered += 1
        for client in clients:
            client.close()
    return answered / (now - started), answered
