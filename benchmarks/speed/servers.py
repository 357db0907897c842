"""Token endpoints as processes: ``python -m benchmarks.speed.servers NAME CLIENTS``.

The first line of the output is JSON: ``{"port": …, "tokens": […], "path": …}``, one refresh token for each client. The
process ends when its standard input does. Each rotates: a reply brings a refresh token that was not seen before.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

PATH = "/v1/oauth/token"
Told = tuple[int, list[str]]


@contextmanager
def ours(clients: int) -> Iterator[Told]:
    """This project's, with the full history."""
    from fake_server.clock import Clock, stopwatch
    from fake_server.policy import Policy
    from fake_server.server import Server
    from fake_server.transports.sockets import SocketServer

    server = Server(Policy(), Clock(), stopwatch(), namespace="speed")
    tokens = [server.login().refresh[0].secret for _ in range(clients)]
    with SocketServer(server) as listener:
        yield listener.port, tokens


def rotating(clients: int) -> tuple[list[str], Callable[[bytes], bytes]]:
    """The least that a rotating endpoint does: refresh tokens that are spent once, and the reply to a body."""
    numbers = count(clients)
    good = {f"rt-{number}" for number in range(clients)}

    def answer(body: bytes) -> bytes:
        good.remove(json.loads(body)["refresh_token"])
        number = next(numbers)
        good.add(f"rt-{number}")
        pair = {"access_token": f"at-{number}", "refresh_token": f"rt-{number}"}
        return json.dumps({**pair, "token_type": "Bearer", "expires_in": 3600}).encode()

    return sorted(good), answer


@contextmanager
def pytest_httpserver(clients: int) -> Iterator[Told]:
    """pytest-httpserver with a handler that rotates."""
    from pytest_httpserver import HTTPServer
    from werkzeug import Request, Response

    logging.getLogger("werkzeug").disabled = True
    tokens, answer = rotating(clients)

    def handler(request: Request) -> Response:
        return Response(answer(request.get_data()), content_type="application/json")

    server = HTTPServer(threaded=True)
    server.expect_request(PATH, method="POST").respond_with_handler(handler)
    server.start()
    yield server.port, tokens
    server.stop()


@contextmanager
def oauthlib(clients: int) -> Iterator[Told]:
    """oauthlib's refresh token grant, with rotation, on the standard library's threading server."""
    from oauthlib.oauth2 import RefreshTokenGrant, RequestValidator
    from oauthlib.oauth2.rfc6749.endpoints import TokenEndpoint
    from oauthlib.oauth2.rfc6749.tokens import BearerToken

    good = {f"rt-{number}" for number in range(clients)}

    class Validator(RequestValidator):
        """Knows which refresh tokens are good."""

        def authenticate_client(self, request: Any, *_: Any, **__: Any) -> bool:
            request.client = type("Client", (), {"client_id": "speed"})()
            return True

        def validate_grant_type(self, *_: Any, **__: Any) -> bool:
            return True

        def validate_refresh_token(self, refresh_token: str, *_: Any, **__: Any) -> bool:
            return refresh_token in good

        def get_original_scopes(self, *_: Any, **__: Any) -> list[str]:
            return ["user:inference"]

        def save_bearer_token(self, token: dict[str, Any], request: Any, *_: Any, **__: Any) -> None:
            good.discard(request.refresh_token)
            good.add(token["refresh_token"])

    validator = Validator()
    kind = BearerToken(validator)
    grants = {"refresh_token": RefreshTokenGrant(validator)}
    endpoint = TokenEndpoint("refresh_token", default_token_type=kind, grant_types=grants)

    class Handler(BaseHTTPRequestHandler):
        """One keep-alive connection."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each reply waits 40 ms for an acknowledgement of its head

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers, text, status = endpoint.create_token_response(f"https://localhost{PATH}", "POST", body, {})
            data = text.encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, sorted(good)
    server.shutdown()


@contextmanager
def bare(clients: int, answer: Callable[[bytes], bytes], tokens: list[str]) -> Iterator[Told]:
    """An endpoint of asyncio and httptools alone."""
    import httptools

    class Connection(asyncio.Protocol):
        """One client."""

        transport: asyncio.Transport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)
            self.body = b""

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            body, self.body = answer(self.body), b""
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(head + body)

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Connection, "127.0.0.1", 0, backlog=1024))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1], tokens
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextmanager
def smallest_fake(clients: int) -> Iterator[Told]:
    """The least that rotates: no history, no policy, no faults."""
    tokens, answer = rotating(clients)
    with bare(clients, answer, tokens) as told:
        yield told


@contextmanager
def fixed_bytes(clients: int) -> Iterator[Told]:
    """The same reply to everything: what the loop and the parser cost."""
    reply = json.dumps({"access_token": "at", "refresh_token": "rt", "expires_in": 3600}).encode()
    with bare(clients, lambda _: reply, ["rt"] * clients) as told:
        yield told


SERVERS = {
    "pytest-claude-tokens": ours,
    "pytest-httpserver": pytest_httpserver,
    "oauthlib on http.server": oauthlib,
    "smallest rotating fake": smallest_fake,
    "fixed bytes": fixed_bytes,
}

if __name__ == "__main__":
    name, number = sys.argv[1:]
    with SERVERS[name](int(number)) as (port, tokens):
        print(json.dumps({"port": port, "tokens": tokens, "path": PATH}), flush=True)
        sys.stdin.read()
