"""In-process: clients that run on trio, and on anyio with trio under it."""

from __future__ import annotations

import asyncio

import anyio
import httpx
import httpx2
import pytest

from fake_server.effects import Signal, Wait
from fake_server.faults import Fault
from fake_server.transports import trio_tasks
from fake_server.transports.inprocess import RealWaiter
from pytest_claude_tokens import ClaudeTokens
from pytest_claude_tokens.violations import CoSchedule

trio = pytest.importorskip("trio")

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"
CALL_URL = "https://api.anthropic.com/v1/messages"
each = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def refreshing(account):
    return {"grant_type": "refresh_token", "refresh_token": account.refresh_token, "client_id": "mine"}


@each
@pytest.mark.parametrize("run", [trio.run, lambda main: anyio.run(main, backend="trio")], ids=["trio", "anyio"])
@pytest.mark.parametrize("latency", [None, 0.01])
def test_requests_are_answered(library, run, latency):
    """With a latency, too: it is waited for in trio's own way."""

    async def main():
        async with library.AsyncClient() as client:
            return (await client.post(TOKEN_URL, json=refreshing(account))).status_code

    with ClaudeTokens(latency=latency) as tokens:
        account = tokens.account(expired=True)
        assert run(main) == 200
    assert tokens.history.operations[0].invoke.actor.startswith("main-")


def test_tasks_are_judged_as_workers():
    """Two tasks of one function are two workers: their calls on one bearer overlap."""

    async def call(client, bearer):
        body = {"model": "claude", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
        await client.post(CALL_URL, json=body, headers={"authorization": f"Bearer {bearer}"})

    async def main():
        async with httpx.AsyncClient() as client, trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(call, client, account.access_token)

    with pytest.raises(CoSchedule), ClaudeTokens(latency=0.01) as tokens:
        account = tokens.account()
        trio.run(main)


def test_time_out_of_a_client_holds():
    """A reply that never comes ends in the client's own error."""

    async def main():
        async with httpx.AsyncClient(timeout=0.01) as client:
            await client.post(TOKEN_URL, json=refreshing(account))

    with pytest.raises(httpx.ReadTimeout), ClaudeTokens() as tokens:
        account = tokens.account(expired=True)
        tokens.fail_next("token", Fault.TIMEOUT)
        trio.run(main)


def test_signal_that_comes_too_late_is_ignored():
    """The run of trio in which somebody waited for it is over."""
    signal = Signal()

    async def main():
        with trio.move_on_after(0.001):
            await RealWaiter().wait_async(Wait("gate", 30, signal))

    trio.run(main)
    signal.fire()
    assert signal.fired


def test_signal_wakes_a_task():
    """From another task, or before the wait has begun."""
    first, second = Signal(), Signal()
    second.fire()

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(RealWaiter().wait_async, Wait("gate", None, first))
            await RealWaiter().wait_async(Wait("gate", None, second))
            await RealWaiter().wait_async(Wait("reply"))
            first.fire()

    trio.run(main)


def test_trio_is_asked_where_it_was_imported(monkeypatch):
    """And a task of it runs."""

    async def main():
        return trio_tasks.running_trio()

    assert trio.run(main) is trio
    assert trio_tasks.running_trio() is None
    monkeypatch.setattr(trio_tasks, "_modules", {})
    assert trio_tasks.running_trio() is None


def test_loop_of_asyncio_with_trio_for_a_guest():
    """Each task waits in the way of the library that runs it."""
    waiter, order = RealWaiter(), []

    async def guest():
        await waiter.wait_async(Wait("latency", 0.001))
        order.append("guest")

    async def host():
        ended = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=lambda outcome: ended.set_result(outcome.unwrap()),
        )
        await waiter.wait_async(Wait("reply"))
        await ended
        order.append("host")

    asyncio.run(host())
    assert order == ["guest", "host"]
