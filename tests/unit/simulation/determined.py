"""Prints the journals of some bodies under some schedules. Run with different hash seeds, it prints the same."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import sleep, time
from typing import Any

import aiohttp
import anthropic
import httpx
from anthropic.lib.credentials import InMemoryConfig

from fake_server.faults import Fault
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, PlannedFault, Schedule
from tests.unit.simulation.worlds import explored, stage
from tests.zoo.common import CALL_URL, HELLO_URL, STREAMED, TOKEN_URL, bearer_header, redeem, redeem_now, token_request

BEFORE = threading.Lock()


async def tasks(claude_tokens, workers):
    """Sets of tasks and futures, cancelled and awaited in whatever order; jitter; streams that are dropped."""
    account = claude_tokens.account(expired=True)

    async def job():
        names = {f"{random.random():.3f}" for _ in range(3)}
        racing = {asyncio.create_task(redeem(account.refresh_token)) for _ in range(3)}
        done, pending = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.exception()
        async with httpx.AsyncClient() as client:
            for _ in names:
                await asyncio.sleep(random.random())
                await client.get(HELLO_URL)
            request = client.build_request("POST", CALL_URL, json=STREAMED, headers=bearer_header(account.access_token))
            await client.send(request, stream=True)

    await workers(job)


def threads(claude_tokens, workers):
    """Locks of the world and from before it, a pool, files, and threads of threads."""
    account = claude_tokens.account(expired=True)
    store = claude_tokens.tmp_path / "store"
    store.write_text(account.refresh_token)
    pool = ThreadPoolExecutor(2)

    def job():
        with BEFORE:
            refresh = store.read_text()
        with suppress(Exception):
            login = pool.submit(redeem_now, refresh).result()
            with BEFORE:
                store.write_text(login.refresh)
        thread = threading.Thread(target=httpx.get, args=[HELLO_URL])
        thread.start()
        sleep(time() % 7)
        thread.join()

    workers(job)
    httpx.get(HELLO_URL)
    pool.submit(httpx.get, HELLO_URL).result()


async def to_thread(claude_tokens, workers):
    """Jobs of executors that meet."""
    account = claude_tokens.account(expired=True)
    lock = threading.Lock()

    def job():
        httpx.get(HELLO_URL)
        with lock, suppress(Exception):
            redeem_now(account.refresh_token)

    async def both():
        jobs = [asyncio.get_running_loop().run_in_executor(None, job) for _ in range(2)]
        done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()
        await asyncio.gather(*jobs)

    await workers(both)


def loops(claude_tokens, workers):
    """A loop in each thread."""
    account = claude_tokens.account(expired=True)

    async def main():
        await asyncio.gather(*[redeem(account.refresh_token) for _ in range(2)], return_exceptions=True)

    workers(lambda: asyncio.run(main()))


async def sessions(claude_tokens, workers):
    """aiohttp, with a connection that is shared."""
    account = claude_tokens.account(expired=True)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2)) as session:

        async def job():
            async with session.post(TOKEN_URL, json=token_request(account.refresh_token)) as response:
                await response.read()
            async with session.post(CALL_URL, json=STREAMED, headers=bearer_header(account.access_token)) as response:
                await response.read()

        with suppress(aiohttp.ClientError):
            await workers(job)


def credentials(claude_tokens):
    account = claude_tokens.account(expired=True)
    path = claude_tokens.tmp_path / "credentials.json"
    stored = {"version": "1.0", "type": "oauth_token", "access_token": account.access_token}
    path.write_text(
        json.dumps({**stored, "expires_at": int(account.expires_at), "refresh_token": account.refresh_token})
    )
    os.chmod(path, 0o600)
    login = {"type": "user_oauth", "client_id": "x", "credentials_path": str(path)}
    return InMemoryConfig(
        {"authentication": login, "base_url": "https://api.anthropic.com", "credentials_path": str(path)}
    )


def sdk(claude_tokens, workers):
    """The official SDK in threads: two clients on one file."""
    config = credentials(claude_tokens)
    clients = [anthropic.Anthropic(credentials=config, max_retries=1) for _ in range(2)]
    workers(*[client.models.list for client in clients])


async def async_sdk(claude_tokens, workers):
    """The same in tasks; it refreshes in threads."""
    config = credentials(claude_tokens)
    clients = [anthropic.AsyncAnthropic(credentials=config, max_retries=1) for _ in range(2)]

    def job(client):
        async def run():
            return await client.models.list()

        return run

    await workers(*map(job, clients))


BODIES: list[Any] = [tasks, threads, to_thread, loops, sessions, sdk, async_sdk]
SCHEDULES = [
    DEFAULT_ORDER,
    Schedule(kind="walk", seed=3),
    Schedule(kind="pct", seed=8, deviations=(Deviation(1, "slow", 0, 4),)),
    Schedule(
        deviations=(Deviation(2, "freeze", 0, 13), Deviation(9, "clock", 0, 3)),
        planned_faults=(PlannedFault(0, "token", Fault.LOST_REPLY),),
    ),
    Schedule(deviations=(Deviation(3, "alone", 1, 8), Deviation(20, "kill", 0, 1)), seed=4),
]


def main():
    with stage():
        for body, schedule in itertools.product(BODIES, SCHEDULES):
            with explored(body) as run:
                outcome = run(schedule)
                print(body.__name__, schedule.text(), "->", outcome.error, outcome.decisions)
                print("\n".join(outcome.lines()))


if __name__ == "__main__":
    main()
