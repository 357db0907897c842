"""Tasks and threads that send at once are told apart, whatever they are called."""

from __future__ import annotations

import asyncio
import threading

import anyio
import httpx
import pytest

from fake_server.transports.senders import name_anew, sender
from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import CoSchedule, DoubleSpend
from tests.unit.explore.common import CALL_URL, TOKEN_URL, quick, refreshing, search
from tests.zoo.common import MESSAGE, bearer_header

trio = pytest.importorskip("trio")


@pytest.fixture(autouse=True)
def anew():
    name_anew()


async def tell(told):
    told.append(sender())
    await anyio.sleep(0)
    assert sender() == told[-1] or sender() in told


def test_tasks_of_one_name_are_told_apart_as_long_as_both_are_there():
    """Who comes later, when the first has ended, is called as that was."""

    async def main():
        told = []
        for _ in range(2):
            await asyncio.gather(*(asyncio.create_task(tell(told), name="serve") for _ in range(2)))
        return told

    assert asyncio.run(main()) == ["serve", "serve-2"] * 2


def test_a_task_that_is_renamed_is_called_by_its_new_name():
    async def main():
        before = sender()
        asyncio.current_task().set_name("refresher")
        return before, sender()

    before, after = asyncio.run(main())
    assert (before != after, after) == (True, "refresher")


def test_threads_of_one_name_are_told_apart():
    told, both = [], threading.Barrier(2)

    def tell_now():
        both.wait()
        told.append(sender())
        both.wait()

    for _ in range(2):
        threads = [threading.Thread(target=tell_now, name="pump") for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [sorted(told[:2]), sorted(told[2:])] == [["pump", "pump-2"]] * 2


def test_tasks_of_trio_have_numbers_from_one_on():
    """Their own name is that of their function. It stays, and each run of a search begins anew."""

    async def main():
        told = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, told)
            nursery.start_soon(tell, told)
        return told

    assert sorted(trio.run(main)) == ["tell-1", "tell-2"]
    assert sorted(trio.run(main)) == ["tell-3", "tell-4"]
    name_anew()
    assert sorted(trio.run(main)) == ["tell-1", "tell-2"]


def test_two_servers_in_one_group_that_share_a_bearer_are_found():
    """anyio gives both the name of their function."""

    @quick
    @explore(workers=2)
    async def test(claude_tokens, workers):
        bearer = claude_tokens.account().access_token
        send, receive = anyio.create_memory_object_stream(2)

        async def serve():
            async with httpx.AsyncClient() as client:
                async for done in receive:
                    await client.post(CALL_URL, json=MESSAGE, headers=bearer_header(bearer))
                    done.set()

        async def ask():
            await send.send(done := anyio.Event())
            await done.wait()

        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(serve)
            group.start_soon(serve)
            await workers(ask)
            group.cancel_scope.cancel()

    result = search(test)
    assert type(result.error) is CoSchedule
    assert result.error.actors == ("serve", "serve-2")


@pytest.mark.parametrize("locked", [True, False])
def test_a_run_of_trio_beside_the_workers_is_the_same_each_time(locked):
    """A task of it that belongs to no worker has the same name in each run of a search."""

    @quick
    @explore(workers=2)
    def test(claude_tokens, workers):
        login, lock = {"token": claude_tokens.account(expired=True).refresh_token}, threading.Lock()

        async def refresh():
            if "bearer" not in login:
                async with httpx.AsyncClient() as client:
                    reply = await client.post(TOKEN_URL, json=refreshing(login["token"]))
                if reply.status_code == 200:
                    login.update(token=reply.json()["refresh_token"], bearer=reply.json()["access_token"])

        def run():
            with lock if locked else threading.Lock():
                trio.run(refresh)

        beside = threading.Thread(target=run)
        beside.start()
        try:
            workers(run)
        finally:
            beside.join()

    assert type(search(test).error) is (type(None) if locked else DoubleSpend)
