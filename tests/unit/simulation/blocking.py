"""Clients that block, each on another library, with one face: ``post(url, body, headers)`` and ``get(url, headers)``.

Nothing is patched and no transport is translated: each is used as its own pages show.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

Reply = tuple[int, Any]
Ask = Callable[..., Reply]
"""``ask(method, url, body, headers, timeout)``; returns the status, and what the body says as JSON."""


def by_http_client(method: str, url: str, body: Any = None, headers: Any = (), timeout: Any = None) -> Reply:
    parts = urlsplit(url)
    made: Any = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with closing(made(parts.netloc, timeout=timeout)) as connection:
        connection.request(method, parts.path, _body(body), {"content-type": "application/json", **dict(headers)})
        reply = connection.getresponse()
        return reply.status, _read(reply.read())


def by_urllib(method: str, url: str, body: Any = None, headers: Any = (), timeout: Any = None) -> Reply:
    asked = urllib.request.Request(
        url, _body(body), {"content-type": "application/json", **dict(headers)}, method=method
    )
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as reply:
            return reply.status, _read(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _read(error.read())


def by_requests(method: str, url: str, body: Any = None, headers: Any = (), timeout: Any = None) -> Reply:
    import requests

    reply = requests.request(method, url, json=body, headers=dict(headers), timeout=timeout)
    return reply.status_code, _read(reply.content)


def by_urllib3(method: str, url: str, body: Any = None, headers: Any = (), timeout: Any = None) -> Reply:
    import urllib3

    with urllib3.PoolManager(retries=False) as pool:
        reply = pool.request(method, url, json=body, headers=dict(headers), timeout=timeout)
        return reply.status, _read(reply.data)


def by_httplib2(method: str, url: str, body: Any = None, headers: Any = (), timeout: Any = None) -> Reply:
    import httplib2

    with closing(httplib2.Http(timeout=timeout)) as http:
        reply, content = http.request(url, method, _body(body), {"content-type": "application/json", **dict(headers)})
        return reply.status, _read(content)


def by_hand(method: str, url: str, body: Any = None, headers: Any = (), timeout: Any = None) -> Reply:
    """On a socket, in a TLS that is put around it before it connects, and by the name of the host."""
    parts = urlsplit(url)
    data = _body(body) or b""
    lines = [f"{method} {parts.path} HTTP/1.1", f"host: {parts.netloc}", "connection: close"]
    lines += ["content-type: application/json", f"content-length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in dict(headers).items()]
    sock = socket.socket()
    if parts.scheme == "https":
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
    with sock:
        sock.settimeout(timeout)
        sock.connect((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)))
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + data)
        head, _, content = b"".join(iter(lambda: sock.recv(1000), b"")).partition(b"\r\n\r\n")
        return int(head.split()[1]), _read(content)


def _body(body: Any) -> bytes | None:
    return None if body is None else json.dumps(body).encode()


def _read(content: bytes) -> Any:
    return json.loads(content) if content else None


STANDARD: Mapping[str, Ask] = {"http.client": by_http_client, "urllib": by_urllib, "socket": by_hand}
"""Those that need nothing but the standard library."""
CLIENTS: Mapping[str, Ask] = {**STANDARD, "requests": by_requests, "urllib3": by_urllib3, "httplib2": by_httplib2}
