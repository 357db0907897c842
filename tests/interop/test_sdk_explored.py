"""The official SDK under `@explore`: nothing is held, the search finds the order by itself."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fake_server import Fault
from pytest_claude_tokens import explore

pytest.importorskip("anthropic", reason="needs the official SDK (the extra `test`)")
pytest.importorskip("pytest_httpx2", reason="the SDK is built on httpx2: needs the extra `httpx2`")

from pytest_claude_tokens.violations import BlindReplay, CoSchedule, DoubleSpend, Violation
from tests.interop.sdk import MESSAGE, async_client, client, login_file
from tests.interop.searching import caught, few, spared

# Threads.


@few
@explore(workers=2)
def two_clients_in_threads(claude_tokens, workers):
    """Two clients, one file."""
    file = login_file(claude_tokens, claude_tokens.account(expired=True))
    clients = [client(file), client(file)]
    workers(*[lambda one=one: one.messages.create(**MESSAGE) for one in clients])


@few
@explore(workers=4)
def one_client_in_threads(claude_tokens, workers):
    """One client for all, which list the models: what shares a bearer here are no calls."""
    workers(client(login_file(claude_tokens, claude_tokens.account(expired=True))).models.list)


@few
@explore(workers=2)
def one_bearer_in_threads(claude_tokens, workers):
    """One client for all, and calls."""
    one = client(login_file(claude_tokens, claude_tokens.account()))
    workers(lambda: one.messages.create(**MESSAGE))


@few
@explore(workers=2, faults=[Fault.LOST_REPLY])
def lost_reply_in_threads(claude_tokens, workers):
    """One client for all; replies may be lost."""
    one = client(login_file(claude_tokens, claude_tokens.account(expired=True)))
    workers(one.models.list, per_worker=2)


@few
@explore(workers=2)
def two_accounts_in_threads(claude_tokens, workers):
    """A client and a login for each worker."""
    clients = [client(login_file(claude_tokens, claude_tokens.account(expired=True))) for _ in range(2)]
    workers(*[lambda one=one: one.messages.create(**MESSAGE) for one in clients])


# Tasks. The asynchronous client refreshes in a thread, which the schedule interleaves, too.


@few
@explore(workers=2)
async def two_clients_in_tasks(claude_tokens, workers):
    """Two clients, one file."""
    file = login_file(claude_tokens, claude_tokens.account(expired=True))
    async with async_client(file) as first, async_client(file) as second:
        await workers(*[lambda one=one: one.messages.create(**MESSAGE) for one in (first, second)])


@few
@explore(workers=3)
async def one_client_in_tasks(claude_tokens, workers):
    """One client for all, which list the models."""
    async with async_client(login_file(claude_tokens, claude_tokens.account(expired=True))) as one:

        async def models() -> Any:
            return await one.models.list()

        await workers(models)


@few
@explore(workers=2)
async def two_streams_in_tasks(claude_tokens, workers):
    """One client for all, and streamed calls."""
    async with async_client(login_file(claude_tokens, claude_tokens.account())) as one:

        async def streamed() -> str:
            async with one.messages.stream(**MESSAGE) as stream:
                return "".join([piece async for piece in stream.text_stream])

        await workers(streamed)


@few
@explore(workers=2)
async def two_accounts_in_tasks(claude_tokens, workers):
    """A client and a login for each worker, and streamed calls."""
    logins = [login_file(claude_tokens, claude_tokens.account(expired=True)) for _ in range(2)]
    async with async_client(logins[0]) as first, async_client(logins[1]) as second:

        async def streamed(one: Any) -> str:
            async with one.messages.stream(**MESSAGE) as stream:
                return "".join([piece async for piece in stream.text_stream])

        said = await workers(lambda: streamed(first), lambda: streamed(second))
        assert said == ["A", "A"]


@pytest.mark.parametrize(
    ("test", "violation"),
    [
        (two_clients_in_threads, DoubleSpend),
        (two_clients_in_tasks, DoubleSpend),
        (one_bearer_in_threads, CoSchedule),
        (two_streams_in_tasks, CoSchedule),
        (lost_reply_in_threads, BlindReplay),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_search_catches(test: Any, violation: type[Violation]) -> None:
    """The violation is found without any hold, and again from its replay token."""
    caught(test, violation)


@pytest.mark.parametrize(
    "test",
    [one_client_in_threads, one_client_in_tasks, two_accounts_in_threads, two_accounts_in_tasks],
    ids=lambda value: value.__name__,
)
def test_the_search_spares(test: Any) -> None:
    """It passes, after as many schedules as were asked for, and several histories."""
    assert spared(test).histories > 5


@few
@explore(workers=2)
def test_the_sdk_waits_in_simulated_time(claude_tokens, workers):
    """It keeps to a `retry-after` of 30 s, which takes none in reality."""
    accounts = [claude_tokens.account() for _ in range(2)]
    clients = [client(login_file(claude_tokens, account), max_retries=1) for account in accounts]
    for account in accounts:
        claude_tokens.fail_next("call", Fault.status(529, retry_after=30), account=account)

    def seconds(one: Any) -> float:
        began = time.time()
        one.messages.create(**MESSAGE)
        return time.time() - began

    took = workers(*[lambda one=one: seconds(one) for one in clients])
    assert min(took) >= 30
