"""Reads requests and writes replies and refusals in HTTP/1.1. Sans-IO.

``httptools`` parses. This module adds what it leaves to its user: limits, targets in absolute form, the worker's name
in the proxy's user name, and the framing of a reply whose length may be unknown (RFC 9112).
"""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote, urlsplit

import httptools

from fake_server.genuine import json
from fake_server.protocol.errors import error_envelope
from fake_server.protocol.wire import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "BODY_LIMIT",
    "CONTINUE",
    "HEAD_LIMIT",
    "Message",
    "Parser",
    "Refusal",
    "chunk",
    "hostname_of",
    "proxy_user",
    "refusal_reply",
    "reply_head",
    "request_of",
]

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of a request's body; a longer one is refused with 413."""
HEAD_LIMIT = 64 * 1024
"""Bytes of a request's line and headers; longer ones are refused with 431. Between two pieces of a body, and after it,
there may be as many that are none of the body: extensions of chunks, and trailers.
"""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Message:
    """One request as received. ``old``: HTTP/1.0, whose clients understand neither chunks nor interim replies."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    keep_alive: bool
    old: bool

    def header(self, name: str) -> str:
        """The first value of the header ``name`` (lower case), or ``""``."""
        for key, value in self.headers:
            if key == name:
                return value
        return ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a request is not served; the connection ends after it.

    ``host`` and ``port``: where a client that takes us for its proxy wanted to go. Such a refusal is journalled.
    """

    status: int
    text: str
    host: str | None = None
    port: int | None = None


_TOO_LARGE = Refusal(413, f"a body has at most {BODY_LIMIT} bytes")
_TOO_LONG_HEAD = Refusal(431, f"the headers are longer than {HEAD_LIMIT} bytes")
_TOO_LONG_FRAMING = Refusal(400, f"more than {HEAD_LIMIT} bytes in a row are extensions of chunks, or trailers")


class Parser:
    """Reads requests from the bytes of one connection, however they are split."""

    def __init__(self) -> None:
        self.expects: bool = False
        """Whether the client waits for ``100 Continue`` before it sends the body; reset when that is sent."""
        self._parser = httptools.HttpRequestParser(self)
        self._found: list[Message | Refusal] = []
        self._refusal: Refusal | None = None
        self._unbodied = 0  # bytes since the request began, or since the last of its body
        self._start()

    def _start(self) -> None:
        self._url = b""
        self._head_size = 0  # of the fields that have come whole
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._in_body = False

    def feed(self, data: bytes) -> list[Message | Refusal]:
        """The requests that ``data`` completes, in order. A refusal or a ``CONNECT`` is always the last."""
        self._unbodied += len(data)
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._after_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError:
                self._found.append(self._refusal or Refusal(400, "this is not HTTP/1.1"))
                break
            else:
                data = b""
        else:
            # httptools keeps a field until it ends, which the field of an endless head or trailer never does.
            if self._unbodied > HEAD_LIMIT:
                self._found.append(_TOO_LONG_FRAMING if self._in_body else _TOO_LONG_HEAD)
        found, self._found = self._found, []
        return found

    def _after_upgrade(self, rest: bytes) -> bytes:
        """The bytes to parse next. Upgrades are never accepted: an offer (h2c) is removed and the request parsed again,
        as the parser took it to end where its body begins.
        """
        message = self._found.pop()
        assert isinstance(message, Message)
        if message.method == "CONNECT":
            self._found.append(message)
            return b""
        self._parser = httptools.HttpRequestParser(self)
        lines = "".join(f"{name}: {value}\r\n" for name, value in message.headers if name != "upgrade")
        version = "1.0" if message.old else "1.1"
        return f"{message.method} {message.target} HTTP/{version}\r\n{lines}\r\n".encode("latin-1") + rest

    # Called by httptools.

    def on_message_begin(self) -> None:
        self._start()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # ignore trailers
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))
            self._count(len(name) + len(value) + len(": \r\n"))

    def _count(self, size: int) -> None:
        """Refuse a head that is too long, also where all of it comes at once."""
        self._head_size += size
        if self._head_size > HEAD_LIMIT:
            self._refuse(_TOO_LONG_HEAD)

    def on_headers_complete(self) -> None:
        self._in_body = True
        for name, value in self._headers:
            if name == "content-length" and int(value) > BODY_LIMIT:
                self._refuse(_TOO_LARGE)
            if name == "expect" and value.lower() == "100-continue" and not self._old:
                self.expects = True

    def on_body(self, body: bytes) -> None:
        self.expects = False
        self._unbodied = 0
        self._body += body
        if len(self._body) > BODY_LIMIT:
            self._refuse(_TOO_LARGE)

    def on_message_complete(self) -> None:
        self.expects = False
        self._unbodied = 0
        method = self._parser.get_method().decode("latin-1")
        keep_alive, old = self._parser.should_keep_alive(), self._old
        target = self._url.decode("latin-1")
        self._found.append(Message(method, target, tuple(self._headers), bytes(self._body), keep_alive, old))
        self._start()

    @property
    def _old(self) -> bool:
        return self._parser.get_http_version() < "1.1"

    def _refuse(self, refusal: Refusal) -> NoReturn:
        self._refusal = refusal
        raise ValueError(refusal.text)  # httptools raises it as a parser error


# Worker and host of a request.

_PORTS = {"http": 80, "https": 443}
"""The ports of the schemes that are served."""


@functools.lru_cache(maxsize=256)  # a client names one host in all its requests
def hostname_of(authority: str) -> tuple[str, int | None]:
    """``api.anthropic.com:443`` -> ``("api.anthropic.com", 443)``. Raises ``ValueError`` for an invalid authority."""
    parts = urlsplit(f"//{authority}")
    return parts.hostname or "", parts.port


def proxy_user(message: Message) -> str | None:
    """The user name that the client sent to the proxy (RFC 7617): the worker's name."""
    scheme, _, encoded = message.header("proxy-authorization").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user = base64.b64decode(encoded, validate=True).decode().partition(":")[0]
    except ValueError:  # as base64, of a text that is not ASCII, or as UTF-8
        return None
    return unquote(user) or None


def request_of(message: Message, answers: Callable[[str, int | None], bool]) -> Request | Refusal:
    """The request in ``message``; a refusal if its host is not one that we answer for."""
    target = message.target
    try:
        host = hostname_of(message.header("host"))[0]
        if not target.startswith(("/", "*")):  # absolute form, as sent to a proxy
            parts = urlsplit(target)
            scheme = parts.scheme.lower()
            if not parts.hostname:
                return Refusal(400, "this target is neither a path nor a URL")
            host, port = parts.hostname, parts.port or _PORTS.get(scheme)
            if scheme not in _PORTS or not answers(host, port):
                return Refusal(403, f"{host} is not served here, and nothing is forwarded", host, port)
            target = f"{parts.path or '/'}?{parts.query}"
    except ValueError:
        return Refusal(400, "this is not a host")
    request = Request.parse(message.method, target, message.headers, message.body, host)
    user = None if request.worker else proxy_user(message)
    return request if user is None else replace(request, worker=user)


# Replies.

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def reply_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """The status line and the headers, with the empty line that ends them."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}\r\n{lines}\r\n".encode("latin-1")


def refusal_reply(refusal: Refusal) -> bytes:
    """The reply that gives the reason of a refusal."""
    body = json.dumps(error_envelope("invalid_request_error", refusal.text), separators=(",", ":")).encode()
    headers = (("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close"))
    return reply_head(refusal.status, headers) + body


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk (RFC 9112 section 7.1); empty for no data, as an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
