"""A burst of simultaneous token requests with one refresh token, many times: never may two of them win.

``python benchmarks/burst.py [BURSTS] [--clients N]``. The clients are raw sockets, so that what is measured is the
service. Exits 1 where a burst has another number of winners than one.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time

from fake_server.clock import Clock, stopwatch
from fake_server.policy import Policy
from fake_server.server import Server
from fake_server.transports.sockets import SocketServer


def request_for(refresh_token: str) -> bytes:
    body = json.dumps({"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "burst"}).encode()
    head = (
        "POST /v1/oauth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Burst:
    """Clients on kept-alive connections that all ask at one time."""

    def __init__(self, port: int, clients: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
        for sock in self.sockets:
            self.selector.register(sock, selectors.EVENT_READ, sock)

    def run(self, refresh_token: str) -> list[bytes]:
        """The replies, in the order in which they came. A reply is small enough to come in one piece."""
        data = request_for(refresh_token)
        for sock in self.sockets:
            sock.sendall(data)
        replies: list[bytes] = []
        while len(replies) < len(self.sockets):
            for key, _ in self.selector.select():
                replies.append(read_reply(key.data))
        return replies

    def close(self) -> None:
        self.selector.close()
        for sock in self.sockets:
            sock.close()


def read_reply(sock: socket.socket) -> bytes:
    """One whole reply with its head."""
    data = sock.recv(65536)
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def run(bursts: int, clients: int) -> tuple[int, float]:
    """How many bursts had other than one winner, and the seconds that all of them took."""
    server = Server(Policy(), Clock(), stopwatch(), namespace="burst")
    refresh = server.login("burst").refresh[0].secret
    wrong = 0
    with SocketServer(server) as listener:
        burst = Burst(listener.port, clients)
        started = time.perf_counter()
        for _ in range(bursts):
            winners = [reply for reply in burst.run(refresh) if reply.startswith(b"HTTP/1.1 200 ")]
            if len(winners) != 1:
                wrong += 1
            if winners:
                refresh = json.loads(winners[0].partition(b"\r\n\r\n")[2])["refresh_token"]
        seconds = time.perf_counter() - started
        burst.close()
    return wrong, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bursts", nargs="?", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    wrong, seconds = run(options.bursts, options.clients)
    requests = options.bursts * options.clients
    print(
        f"{options.bursts:,} bursts of {options.clients} clients: {requests:,} requests in {seconds:.1f} s, "
        f"{requests / seconds:,.0f} requests/s, {wrong} bursts without exactly one winner"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
