"""In-process: streamed replies, piece by piece, to their end or left before it."""

from __future__ import annotations

import asyncio
import gc
from threading import Thread

import httpcore
import pytest

from fake_server.effects import Wait
from fake_server.transports.inprocess import driving
from tests.unit.transports.inprocess_world import CALL, LIBRARIES, MODES, SimulatedWaiter, World, ask

both = pytest.mark.parametrize("library", LIBRARIES, ids=["httpx", "httpx2"])
either = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def world():
    world = World()
    with world.interceptor:
        yield world


@both
@either
def test_a_stream_read_at_once_is_whole(library, mode, world):
    """A client that doesn't ask for the pieces gets all of them."""
    reply = ask(library, mode, "POST", CALL, **world.message("five", stream=True))
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in reply.headers
    assert b'"text": "five"' in reply.content or b'"text":"five"' in reply.content
    assert reply.content.rstrip().endswith(b"}")
    assert b"message_stop" in reply.content
    assert world.story() == [("invoke", None), ("ok", None)]


@both
def test_a_call_is_open_until_its_last_piece_is_taken(library, world):
    """Each piece is a step; the outcome is journalled just before the last one is handed out."""
    with library.stream("POST", CALL, **world.message(stream=True)) as reply:
        pieces = reply.iter_raw()
        assert next(pieces).startswith(b"event: message_start")
        assert world.story() == [("invoke", None)]
        assert next(pieces)
        assert world.story() == [("invoke", None), ("ok", None)]
        assert list(pieces) == []
    assert world.story() == [("invoke", None), ("ok", None)]


@both
def test_a_call_is_open_until_its_last_piece_is_taken_by_a_task(library, world):
    """The same for an asynchronous client, whose other tasks run between the pieces."""

    async def main():
        async with library.AsyncClient() as client, client.stream("POST", CALL, **world.message(stream=True)) as reply:
            return [world.story(), *[world.story() async for _ in reply.aiter_raw()]]

    opened = [("invoke", None)]
    assert asyncio.run(main()) == [opened, opened, [*opened, ("ok", None)]]


@both
def test_the_next_call_waits_for_the_end_of_the_stream(library, world):
    """On one bearer a second call is served when the stream of the first has ended, and no earlier."""

    async def second(client, texts):
        reply = await client.post(CALL, **world.message("second"))
        texts.append(reply.json()["content"][0]["text"])

    async def main():
        texts = []
        async with library.AsyncClient() as client:
            async with client.stream("POST", CALL, **world.message(stream=True)) as reply:
                task = asyncio.create_task(second(client, texts))
                while len(world.events("invoke")) < 2:
                    await asyncio.sleep(0)
                texts.append("first")
                async for _ in reply.aiter_raw():
                    pass
            await task
        return texts

    assert asyncio.run(main()) == ["first", "second"]
    assert [event.op for event in world.events("ok")] == [1, 2]


def _leave_sync(library, world, pieces):
    with library.stream("POST", CALL, **world.message(stream=True)) as reply:
        iterator = reply.iter_raw()
        for _ in range(pieces):
            next(iterator)


def _leave_async(library, world, pieces):
    async def main():
        async with library.AsyncClient() as client, client.stream("POST", CALL, **world.message(stream=True)) as reply:
            iterator = reply.aiter_raw()
            for _ in range(pieces):
                await anext(iterator)
            await reply.aclose()
            await iterator.aclose()

    asyncio.run(main())


@both
@either
@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_closing_early_is_journalled_once(library, mode, pieces, world):
    """A stream that is closed before its last piece has an unknown outcome; after it, nothing more is said."""
    (_leave_sync if mode == "sync" else _leave_async)(library, world, pieces)
    end = ("ok", None) if pieces == 2 else ("info", "abandoned")
    assert world.story() == [("invoke", None), end]
    assert world.server.open == {}
    reply = ask(library, mode, "POST", CALL, **world.message())
    assert reply.status_code == 200  # the bearer is free again


@both
def test_an_error_of_the_reader_closes_the_stream(library, world):
    """An exception in the block that reads ends the call."""
    with pytest.raises(ZeroDivisionError), library.stream("POST", CALL, **world.message(stream=True)) as reply:
        for _ in reply.iter_raw():
            raise ZeroDivisionError
    assert world.story() == [("invoke", None), ("info", "abandoned")]


@both
def test_a_dropped_stream_is_abandoned_when_it_is_collected(library, world):
    """A client that forgets its response gives up its place on the bearer."""
    client = library.Client()
    reply = client.send(client.build_request("POST", CALL, **world.message(stream=True)), stream=True)
    assert reply.status_code == 200
    assert world.story() == [("invoke", None)]
    del reply
    gc.collect()
    assert world.story() == [("invoke", None), ("info", "abandoned")]
    client.close()


def test_collection_inside_the_core_waits_for_the_next_step(world):
    """The collector may strike while its thread is inside the core: the journal is not written in between."""
    client = LIBRARIES[0].Client()
    reply = client.send(client.build_request("POST", CALL, **world.message(stream=True)), stream=True)
    assert reply.status_code == 200
    with world.server.lock:
        del reply
        gc.collect()
        assert world.story() == [("invoke", None)]
    client.get("https://api.anthropic.com/api/hello")
    assert ("info", "abandoned") in world.story()
    assert not driving._ORPHANS
    client.close()


@both
def test_a_task_that_is_cancelled_between_two_pieces(library):
    """Cancelling a task that waits for a piece is journalled as a cancellation, once."""

    class Stalls(SimulatedWaiter):
        async def wait_async(self, wait):
            if wait.why == "piece":
                self.stalled.set()
                await asyncio.Event().wait()
            await super().wait_async(wait)

    waiter = Stalls()
    world = World(waiter=waiter)

    async def read(client):
        async with client.stream("POST", CALL, **world.message(stream=True)) as reply:
            await reply.aread()

    async def main():
        waiter.stalled = asyncio.Event()
        async with library.AsyncClient() as client:
            task = asyncio.create_task(read(client))
            await waiter.stalled.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with world.interceptor:
        asyncio.run(main())
    assert world.story() == [("invoke", None), ("info", "cancelled")]


@both
def test_closing_a_stream_under_its_reader(library):
    """A task that waits for a piece of a response that another task closes gets an error, and no silent end."""

    class Stalls(SimulatedWaiter):
        async def wait_async(self, wait):
            if wait.why == "piece":
                self.stalled.set()
                await self.closed.wait()

    waiter = Stalls()
    world = World(waiter=waiter)

    async def main():
        waiter.stalled, waiter.closed = asyncio.Event(), asyncio.Event()
        async with library.AsyncClient() as client, client.stream("POST", CALL, **world.message(stream=True)) as reply:
            task = asyncio.create_task(reply.aread())
            await waiter.stalled.wait()
            await reply.stream.aclose()
            waiter.closed.set()
            with pytest.raises(library.ReadError, match="was closed"):
                await task

    with world.interceptor:
        asyncio.run(main())
    assert world.story() == [("invoke", None), ("info", "abandoned")]


@both
@either
def test_each_piece_has_the_whole_read_timeout(library, mode):
    """The read time-out begins anew with each piece, and strikes between two as it does before the first."""
    waiter = SimulatedWaiter(drag=2.0)  # seconds before the request, before the reply and before each piece
    world = World(waiter=waiter)
    with world.interceptor:
        assert ask(library, mode, "POST", CALL, **world.message(stream=True), timeout=4.5).status_code == 200
        assert waiter.waits == [Wait("request", until=4.5), Wait("reply", until=4.5), Wait("piece", until=8.5)]
        assert waiter.now > 4.5

        class SlowPieces(SimulatedWaiter):
            def wait(self, wait):
                super().wait(Wait(wait.why, 9.0) if wait.why == "piece" else wait)

        world.target = driving.Destination(world.server, SlowPieces())
        slow = World(waiter=(pieces := SlowPieces()))
        world.target = slow.target
        with pytest.raises(library.ReadTimeout):
            ask(library, mode, "POST", CALL, **slow.message(stream=True))
    assert pieces.now == 9.0
    assert slow.story() == [("invoke", None), ("info", "timeout")]


def test_threads_read_streams_of_their_own(world):
    """Streams that are read by several threads at once do not mix."""
    results = {}

    def read(n):
        account = world.server.login(str(n))
        headers = {"authorization": f"Bearer {account.access[0].secret}"}
        body = {"stream": True, "messages": [{"role": "user", "content": f"Reply: text-{n}-"}]}
        with LIBRARIES[1].stream("POST", CALL, headers=headers, json=body) as reply:
            results[n] = b"".join(reply.iter_raw())

    threads = [Thread(target=read, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(f"text-{n}-".encode() in results[n] for n in range(6))
    assert len(world.events("ok")) == 6


def test_a_pool_without_a_client_library_on_top_is_answered_too(world):
    """httpcore by itself is answered with its own exceptions and its own streams."""
    with httpcore.ConnectionPool() as pool:
        headers = {"authorization": f"Bearer {world.grant.access[0].secret}"}
        body = b'{"stream": true, "messages": []}'
        with pool.stream("POST", CALL, headers=headers, content=body) as reply:
            assert b"message_stop" in b"".join(reply.iter_stream())
        with pool.stream("POST", CALL, headers=headers, content=body):
            pass
    assert [kind for kind, _ in world.story()] == ["invoke", "ok", "invoke", "info"]
