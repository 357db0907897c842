"""Shapes of abuse over the wire: what a client may send, where it may stop, and how it may leave."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from itertools import product

from tests.unit.transports.raw import PATIENCE, call, request, token_body

Shape = tuple[bytes, str, str]
"""What is sent, how much of it, and how the client leaves."""

PORTIONS = ("all", "half", "all but a byte")
ENDINGS = ("close", "reset", "half-close", "stay")


def said(bearer: str) -> list[bytes]:
    """Everything that is sent: some of it good, in good or in bad company."""
    hello, history = request("GET", "/api/hello"), request("GET", "/_claude_tokens/history")
    token = request("POST", "/v1/oauth/token", token_body("unknown"))
    deep = b"[" * 10_000
    number = json.dumps({"expires_in": 1}).replace("1", "1" + "0" * 400).encode()
    return [
        hello,
        hello * 50,
        history * 50,
        request("GET", "/_claude_tokens/verdict") * 20,
        call(bearer, stream=True) * 20,
        call(bearer, text="x" * 100_000) * 3,
        token * 20,
        request("POST", "/_claude_tokens/accounts", deep),
        request("POST", "/_claude_tokens/accounts", number),
        request("POST", "/_claude_tokens/faults", b'{"fault":"status","code":1e400}'),
        request("POST", "/v1/oauth/token", deep),
        request("POST", "/v1/messages", deep, f"Authorization: Bearer {bearer}"),
        request("GET", "/" + "x" * 70_000),
        request("GET", "/", b"", *[f"X-{number}: x" for number in range(5000)]),
        request("GET", "/", b"", "Content-Length: -1"),
        request("POST", "/v1/messages", b"", "Content-Length: 99999999999999999999"),
        request("POST", "/v1/messages", b"", "Transfer-Encoding: chunked") + b"zz\r\n",
        request("POST", "/v1/messages", b"", "Transfer-Encoding: chunked") + b"5\r\nabcde\r\n0\r\n\r\n" + hello,
        request("POST", "/v1/oauth/token", token_body("x"), "Expect: 100-continue"),
        request("GET", "/api/hello", b"", "Upgrade: h2c", "Connection: Upgrade") + hello,
        request("CONNECT", "api.anthropic.com:443") + b"\x16\x03\x01",
        request("HEAD", "/api/hello") * 10,
        request("GET", "/api/hello", version="1.0") + hello,
        b"GET /api/hello HTTP/1.1\nHost: x\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 5000,
        b"\r\n" * 5000,
        bytes(range(256)) * 20,
        hello + b"\x00" + hello,
    ]


def shapes(bearer: str) -> Iterator[Shape]:
    """Each of what is said, in each portion, with each ending."""
    yield from product(said(bearer), PORTIONS, ENDINGS)


def abuse(port: int, shape: Shape) -> socket.socket | None:
    """Do it to that port; returns the connection if the client stays, and never reads."""
    data, portion, ending = shape
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    client.settimeout(0.2)  # for what is not read
    part = {"all": len(data), "half": len(data) // 2, "all but a byte": len(data) - 1}[portion]
    try:
        client.sendall(data[:part])
        if ending == "half-close":
            client.shutdown(socket.SHUT_WR)
    except OSError:  # it was refused meanwhile, or is not read any more
        pass
    if ending == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if ending in ("close", "reset"):
        client.close()
        return None
    return client
