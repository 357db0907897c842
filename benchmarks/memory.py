"""Memory over many schedules: it must not grow. ``python benchmarks/memory.py [SCHEDULES]``, 100,000 by default.

Prints the resident set after each tenth of them; the first tenth is a warm-up. Exit status 1 where the last tenth
needs more than 5 % (and 4 MiB) over the second.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time

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


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run ten searches in one process, and compare."""
    part = int(sys.argv[1] if len(sys.argv) > 1 else 100_000) // 10

    @settings(max_examples=part, database=None)
    @explore(workers=4)
    async def searched(claude_tokens, workers):
        await workers(Pool(claude_tokens.account(expired=True).credentials).call)

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
    return int(grown > max(0.05 * sizes[1], 4 * 2**20))


if __name__ == "__main__":
    sys.exit(main())
