"""Schedules a second of one sound threaded body, by the client that it sends with: medians of interleaved repeats.

``python benchmarks/clients.py [--repeats N] [--schedules N] [--workers N]``. The workers refresh behind a lock, with a
client that the workers of a schedule share, and with one made for each call. The rate is by the processor's time: on a
machine with other work the clock says little. What counts is the last column, the rate beside that of the same body on
httpx.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from contextvars import copy_context
from pathlib import Path
from typing import Any

import httpx
import requests
import urllib3
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1]))

from pytest_claude_tokens import explore
from pytest_claude_tokens.search.context import CONTEXT, ExplorationContext

HOST, PATH = "platform.claude.com", "/v1/oauth/token"
URL = f"https://{HOST}{PATH}"
TIMEOUT_SECONDS = 10

Post = Callable[[dict[str, str]], Any]
"""Sends the body; returns the reply, as JSON."""


def by_httpx() -> Post:
    client = httpx.Client()
    return lambda body: client.post(URL, json=body, timeout=TIMEOUT_SECONDS).json()


def by_httpx_per_call() -> Post:
    return lambda body: httpx.post(URL, json=body, timeout=TIMEOUT_SECONDS).json()


def by_requests() -> Post:
    session = requests.Session()
    return lambda body: session.post(URL, json=body, timeout=TIMEOUT_SECONDS).json()


def by_requests_per_call() -> Post:
    return lambda body: requests.post(URL, json=body, timeout=TIMEOUT_SECONDS).json()


def by_urllib3() -> Post:
    pool = urllib3.PoolManager()
    return lambda body: pool.request("POST", URL, json=body, timeout=TIMEOUT_SECONDS).json()


def by_http_client() -> Post:
    def post(body: dict[str, str]) -> Any:
        with closing(http.client.HTTPSConnection(HOST, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request("POST", PATH, json.dumps(body), {"content-type": "application/json"})
            return json.load(connection.getresponse())

    return post


CLIENTS: dict[str, tuple[Callable[[], Post], str]] = {
    "httpx, shared": (by_httpx, "httpx, shared"),
    "httpx, per call": (by_httpx_per_call, "httpx, per call"),
    "requests, shared": (by_requests, "httpx, shared"),
    "requests, per call": (by_requests_per_call, "httpx, per call"),
    "urllib3, shared": (by_urllib3, "httpx, shared"),
    "http.client, per call": (by_http_client, "httpx, per call"),
}
"""Each way to send, and the one that it is compared with."""


def rate(make: Callable[[], Post], workers: int, schedules: int) -> float:
    """Schedules a second of the processor's time."""

    def body(claude_tokens: Any, workers: Any) -> None:
        account, lock, post, fresh = claude_tokens.account(expired=True), threading.Lock(), make(), []

        def job() -> None:
            with lock:
                if not fresh:
                    request = {"grant_type": "refresh_token", "refresh_token": account.refresh_token, "client_id": "x"}
                    fresh.append(post(request)["access_token"])

        workers(job)

    test = settings(max_examples=schedules, database=None, derandomize=True)(explore(workers=workers)(body))

    def search() -> None:
        CONTEXT.set(ExplorationContext())
        test()

    begun = time.process_time()
    copy_context().run(search)
    return schedules / (time.process_time() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--schedules", type=int, default=300)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    measured: dict[str, list[float]] = defaultdict(list)
    for repeat in range(-1, options.repeats):
        for name, (make, _) in CLIENTS.items():
            found = rate(make, options.workers, options.schedules if repeat >= 0 else 20)
            if repeat >= 0:
                measured[name].append(found)
    print("\n| client | schedules a second of processor | beside httpx |\n|---|--:|--:|")
    for name, (_, beside) in CLIENTS.items():
        middle, other = statistics.median(measured[name]), statistics.median(measured[beside])
        print(f"| {name} | {middle:,.0f} | {middle / other:.0%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
