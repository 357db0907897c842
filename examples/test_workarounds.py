"""Do the workarounds work? Those of anthropics/claude-code#54999 and their neighbours, searched for a broken promise.

The service serves one call per bearer at a time, and lets the next one wait. So a dispatcher should never have two
workers at work with one bearer. Two ways to get there are told in that issue: hand out distinct tokens in turn, or
let only one job run at a time. Here each way is a small dispatcher; jobs make one to three calls, whose replies are
streamed, and `@explore` looks for an order and for delays in which two workers share a bearer all the same.

    pytest examples/test_workarounds.py -v

prints a line for each with the number of schedules behind it. Those that break are marked as expected failures, and
only a `CoSchedule` is expected: `--runxfail` shows the story of each, with the command that replays it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import CoSchedule

URL = "https://api.anthropic.com/v1/messages"
BODY = {
    "model": "claude-fake",
    "max_tokens": 64,
    "stream": True,
    "messages": [{"role": "user", "content": "Reply: done"}],
}

thorough = settings(max_examples=150)
breaks = pytest.mark.xfail(raises=CoSchedule, strict=True, reason="two workers share a bearer")
turns = st.lists(st.integers(1, 3), min_size=1, max_size=3)
"""What a worker has to do: a list of jobs, each of which takes so many calls."""


async def job(bearer: str, calls: int) -> None:
    """What is dispatched: some calls one after the other, each read to the end of its stream."""
    headers = {"Authorization": f"Bearer {bearer}"}
    async with httpx.AsyncClient() as client:
        for _ in range(calls):
            async with client.stream("POST", URL, headers=headers, json=BODY) as reply:
                reply.raise_for_status()
                async for _line in reply.aiter_lines():
                    pass


# The dispatchers: each lends a bearer for the time of a job.

Lend = Callable[[], AbstractAsyncContextManager[str]]


def nothing(bearers: Sequence[str]) -> Lend:
    """Everybody uses the one token."""

    @asynccontextmanager
    async def lend() -> AsyncIterator[str]:
        yield bearers[0]

    return lend


def round_robin(bearers: Sequence[str]) -> Lend:
    """Each job takes the next token, whoever may be using it still."""
    turn = itertools.cycle(bearers)

    @asynccontextmanager
    async def lend() -> AsyncIterator[str]:
        yield next(turn)

    return lend


def checkout_pool(bearers: Sequence[str]) -> Lend:
    """Each job takes a token that is free, and gives it back."""
    free: asyncio.Queue[str] = asyncio.Queue()
    for bearer in bearers:
        free.put_nowait(bearer)

    @asynccontextmanager
    async def lend() -> AsyncIterator[str]:
        bearer = await free.get()
        try:
            yield bearer
        finally:
            free.put_nowait(bearer)

    return lend


def dispatch_queue(bearers: Sequence[str]) -> Lend:
    """One token, and one job at a time."""
    turn = asyncio.Lock()

    @asynccontextmanager
    async def lend() -> AsyncIterator[str]:
        async with turn:
            yield bearers[0]

    return lend


def works_off(lend: Lend, jobs: Sequence[int]) -> Callable[[], Awaitable[None]]:
    """A worker that does its jobs one after the other, each with what the dispatcher lends it."""

    async def work() -> None:
        for calls in jobs:
            async with lend() as bearer:
                await job(bearer, calls)

    return work


def bearers_of(claude_tokens: Any, count: int) -> list[str]:
    """The tokens of so many accounts, made by `claude setup-token`, as the issue has them."""
    return [claude_tokens.account(setup_token=True).access_token for _ in range(count)]


# The verdicts.


@breaks
@thorough
@explore(workers=2, first=turns, second=turns)
async def test_nothing(claude_tokens: Any, workers: Any, first: list[int], second: list[int]) -> None:
    lend = nothing(bearers_of(claude_tokens, 1))
    await workers(works_off(lend, first), works_off(lend, second))


@breaks
@thorough
@explore(workers=2, first=turns, second=turns)
async def test_round_robin(claude_tokens: Any, workers: Any, first: list[int], second: list[int]) -> None:
    """As many tokens as workers. It goes well until one job takes longer than a whole round of the others."""
    lend = round_robin(bearers_of(claude_tokens, 2))
    await workers(works_off(lend, first), works_off(lend, second))


@explore(workers=2, first=turns, second=turns)
async def test_round_robin_with_a_token_for_every_job(
    claude_tokens: Any, workers: Any, first: list[int], second: list[int]
) -> None:
    """There is no second round, so no job can outlive the first one."""
    lend = round_robin(bearers_of(claude_tokens, len(first) + len(second)))
    await workers(works_off(lend, first), works_off(lend, second))


@explore(workers=2, first=turns, second=turns)
async def test_token_per_worker(claude_tokens: Any, workers: Any, first: list[int], second: list[int]) -> None:
    mine, yours = (nothing([bearer]) for bearer in bearers_of(claude_tokens, 2))
    await workers(works_off(mine, first), works_off(yours, second))


@explore(workers=3, first=turns, second=turns)
async def test_checkout_pool(claude_tokens: Any, workers: Any, first: list[int], second: list[int]) -> None:
    """Fewer tokens than workers: one of them waits."""
    lend = checkout_pool(bearers_of(claude_tokens, 2))
    await workers(works_off(lend, first), works_off(lend, second), works_off(lend, first))


@explore(workers=2, first=turns, second=turns)
async def test_dispatch_queue(claude_tokens: Any, workers: Any, first: list[int], second: list[int]) -> None:
    """The other workaround of the issue: sound, and as slow as it sounds."""
    lend = dispatch_queue(bearers_of(claude_tokens, 1))
    await workers(works_off(lend, first), works_off(lend, second))
