"""Memory over many schedules: it must not grow. ``python benchmarks/memory.py [SCHEDULES] [--threads]``.

100,000 schedules by default. Prints the resident set after each tenth of them; the first tenth is a warm-up. Exit
status 1 where the last tenth needs more than 5 % (and 4 MiB) over the second, or a thread is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
from hypothesis import settings

from pytest_claude_tokens import explore

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"


class Pool:
    """A sound refresher: single flight, and a look after the lock."""

    def __init__(self, credentials: dict) -> None:
        login = credentials["claudeAiOauth"]
        self.refresh, self.expires = login["refreshToken"], login["expiresAt"] / 1000
        self.lock = asyncio.Lock()

    async def call(self) -> None:
        async with self.lock:
            if time.time() >= self.expires:
                body = {"grant_type": "refresh_token", "refresh_token": self.refresh, "client_id": "bench"}
                async with httpx.AsyncClient() as client:
                    got = (await client.post(TOKEN_URL, json=body)).json()
                self.refresh, self.expires = got["refresh_token"], time.time() + got["expires_in"]


class ThreadPool:
    """The same in threads."""

    def __init__(self, credentials: dict) -> None:
        login = credentials["claudeAiOauth"]
        self.refresh, self.expires = login["refreshToken"], login["expiresAt"] / 1000
        self.lock = threading.Lock()

    def call(self) -> None:
        with self.lock:
            if time.time() >= self.expires:
                body = {"grant_type": "refresh_token", "refresh_token": self.refresh, "client_id": "bench"}
                with httpx.Client() as client:
                    got = client.post(TOKEN_URL, json=body).json()
                self.refresh, self.expires = got["refresh_token"], time.time() + got["expires_in"]


def tasks(part: int) -> Callable[[], Any]:
    """A search of so many schedules."""

    @settings(max_examples=part, database=None)
    @explore(workers=4)
    async def searched(claude_tokens, workers):
        await workers(Pool(claude_tokens.account(expired=True).credentials).call)

    return searched


def threads(part: int) -> Callable[[], Any]:
    """A search of so many schedules, with preemption between any two accesses."""

    @settings(max_examples=part, database=None)
    @explore(workers=2)
    def searched(claude_tokens, workers):
        workers(ThreadPool(claude_tokens.account(expired=True).credentials).call)

    return searched


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run ten searches in one process, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schedules", nargs="?", type=int, default=100_000)
    parser.add_argument("--threads", action="store_true", help="a dispatcher in threads in place of tasks")
    options = parser.parse_args()
    part = options.schedules // 10
    searched = (threads if options.threads else tasks)(part)
    before = threading.active_count()
    sizes = []
    for number in range(1, 11):
        started = time.perf_counter()
        searched()
        gc.collect()
        sizes.append(resident())
        rate = part / (time.perf_counter() - started)
        print(f"{number * part:>8,} schedules  {sizes[-1] / 2**20:7.1f} MiB  {rate:6.0f}/s", flush=True)
    grown = sizes[-1] - sizes[1]
    print(f"grown since the second tenth: {grown / 2**20:+.1f} MiB")
    left = threading.active_count() - before
    print(f"threads left behind: {left}")
    return int(grown > max(0.05 * sizes[1], 4 * 2**20) or left > 0)


if __name__ == "__main__":
    sys.exit(main())
