"""In-process: what goes wrong, as the client library would report it, and what the journal says of it."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from fake_server.core.hold import Hold
from fake_server.effects import Wait
from fake_server.faults import Fault
from fake_server.transports.inprocess import driving
from tests.unit.transports.inprocess_world import (
    CALL,
    HELLO,
    LIBRARIES,
    MODES,
    TOKEN,
    SimulatedWaiter,
    World,
    ask,
)

both = pytest.mark.parametrize("library", LIBRARIES, ids=["httpx", "httpx2"])
either = pytest.mark.parametrize("mode", MODES)


@both
@either
@pytest.mark.parametrize("part", ["head", "body"])
@pytest.mark.parametrize("url", [CALL, TOKEN])
def test_a_reply_that_is_held_back_comes_whole(library, mode, part, url):
    """Head or body, of a stream or of a reply in one piece: the client has all of it, later."""
    waiter = SimulatedWaiter()
    world = World(waiter=waiter)
    world.server.faults.add("call" if url == CALL else "token", Fault.stall(30, part))
    asked = world.message(stream=True) if url == CALL else {"json": world.refresh}
    with world.interceptor:
        reply = ask(library, mode, "POST", url, client={"timeout": None}, **asked)
    assert ("message_stop" if url == CALL else "access_token") in reply.text
    assert waiter.now == 30.0
    assert [wait.why for wait in waiter.waits].index("reply") == (2 if part == "head" else 1)


BROKEN = {
    Fault.LOST_REPLY: ("RemoteProtocolError", "Server disconnected without sending a response.", True),
    Fault.RESET: ("ReadError", f"[Errno {errno.ECONNRESET}] {os.strerror(errno.ECONNRESET)}", None),
    Fault.GARBAGE: (
        "RemoteProtocolError",
        "illegal status line: bytearray(b'\\x16\\x03\\x00 this is not HTTP')",
        True,
    ),
}


@both
@either
@pytest.mark.parametrize("fault", BROKEN, ids=str)
def test_a_broken_connection_is_the_librarys_own_error(library, mode, fault):
    """The exception is the one that the library raises for that fault, with its request; the outcome is unknown."""
    error, text, committed = BROKEN[fault]
    world = World()
    world.server.faults.add("token", fault)
    with world.interceptor, pytest.raises(getattr(library, error)) as caught:
        ask(library, mode, "POST", TOKEN, json=world.refresh)
    assert str(caught.value) == text
    assert str(caught.value.request.url) == TOKEN
    invoke, info = world.events()
    assert (invoke.type, info.type, info.get("fault"), info.get("committed")) == (
        "invoke",
        "info",
        str(fault),
        committed,
    )
    assert world.server.open == {}


@both
@either
@pytest.mark.parametrize("stream", [False, True])
def test_a_truncated_body_has_a_first_part(library, mode, stream):
    """Status, headers and a part of the body arrive; then the connection ends too early."""
    world, parts = World(), []
    world.server.faults.add("call", Fault.TRUNCATED)

    def sync():
        with library.stream("POST", CALL, **world.message(stream=stream)) as reply:
            parts.append(reply)
            parts.extend(reply.iter_raw())

    async def main():
        async with (
            library.AsyncClient() as client,
            client.stream("POST", CALL, **world.message(stream=stream)) as reply,
        ):
            parts.append(reply)
            parts.append(await anext(chunks := reply.aiter_raw()))
            await anext(chunks)

    with world.interceptor, pytest.raises(library.RemoteProtocolError, match="peer closed connection without sending"):
        sync() if mode == "sync" else asyncio.run(main())
    reply, part = parts
    assert reply.status_code == 200
    if stream:
        assert part.startswith(b"event: message_start")
        assert reply.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in reply.headers
    else:
        assert part.startswith(b'{"id"')
        assert int(reply.headers["content-length"]) > len(part)
        assert "transfer-encoding" not in reply.headers
    assert world.story() == [("invoke", None), ("info", "truncated")]


@both
@either
@pytest.mark.parametrize(
    "fault", [Fault.status(503, retry_after=7), Fault.BURST, Fault.quota(), Fault.html(), Fault.moved()], ids=str
)
def test_an_answer_of_the_fault_is_an_ordinary_reply(library, mode, fault):
    """A fault that answers is a complete HTTP reply."""
    world = World()
    world.server.faults.add("call", fault)
    with world.interceptor:
        reply = ask(library, mode, "POST", CALL, **world.message())
    assert reply.status_code == fault.code
    assert world.story() == [("invoke", None), ("fail", None)]


@both
@either
def test_a_reply_that_never_comes_ends_with_the_clients_patience(library, mode):
    """A request that is never answered fails with the library's read time-out after the client's own limit."""
    waiter = SimulatedWaiter()
    world = World(waiter=waiter)
    world.server.faults.add("token", Fault.TIMEOUT)
    with world.interceptor, pytest.raises(library.ReadTimeout, match="timed out") as caught:
        ask(library, mode, "POST", TOKEN, json=world.refresh, timeout=7.5)
    assert waiter.waits[-1] == Wait("hang", 7.5)
    assert caught.value.request.method == "POST"
    assert world.story() == [("invoke", None), ("info", "timeout")]
    assert world.events("info")[0].get("committed") is None


@both
@either
def test_a_client_without_patience_is_let_go_in_the_end(library, mode):
    """Without a time-out of its own the client gets an error after a minute: no test hangs for ever."""
    waiter = SimulatedWaiter()
    world = World(waiter=waiter)
    world.server.faults.add("token", Fault.TIMEOUT)
    with world.interceptor, pytest.raises(library.ReadError, match="no reply within 60 s"):
        ask(library, mode, "POST", TOKEN, json=world.refresh, timeout=None)
    assert waiter.now == driving.HANG_TIMEOUT_SECONDS
    assert world.story() == [("invoke", None), ("info", "timeout")]


@both
@either
def test_a_reply_that_is_late_times_out_after_its_commit(library, mode):
    """A delay after the commit that is longer than the read time-out loses the reply of a spent token."""
    waiter = SimulatedWaiter()
    world = World(waiter=waiter)
    world.server.faults.add("token", Fault.delay(9, after_commit=True))
    with world.interceptor, pytest.raises(library.ReadTimeout):
        ask(library, mode, "POST", TOKEN, json=world.refresh)  # the default is 5 seconds
    assert waiter.now == 5.0
    assert world.story() == [("invoke", None), ("info", "timeout")]
    assert world.events("info")[0].get("committed") is True
    assert len(world.grant.refresh) == 2


@both
@either
@pytest.mark.parametrize("timeout", [9.5, None])
def test_a_reply_in_time_arrives(library, mode, timeout):
    """The same delay under a longer time-out, or none, is only a delay."""
    world = World(waiter=SimulatedWaiter())
    world.server.faults.add("token", Fault.delay(9, after_commit=True))
    with world.interceptor:
        assert ask(library, mode, "POST", TOKEN, json=world.refresh, timeout=timeout).status_code == 200


def test_moments_count_against_the_patience_too():
    """A simulated network that takes its time in the moments without a duration is too slow for the client."""
    world = World(waiter=SimulatedWaiter(drag=3.0))
    with world.interceptor:
        assert ask(LIBRARIES[0], "sync", "POST", TOKEN, json=world.refresh, timeout=6.5).status_code == 200
        with pytest.raises(LIBRARIES[0].ReadTimeout):
            ask(LIBRARIES[0], "sync", "POST", TOKEN, json=world.refresh, timeout=5.5)


def test_only_the_read_timeout_limits_the_wait_for_a_reply():
    """Connecting, writing and the pool take no time here, so their limits do not strike."""
    world, httpx = World(waiter=SimulatedWaiter(drag=3.0)), LIBRARIES[0]
    patience = httpx.Timeout(connect=0.1, write=0.1, pool=0.1, read=60)
    with world.interceptor:
        assert ask(httpx, "sync", "GET", HELLO, timeout=patience).status_code == 200


@both
@either
def test_in_real_time_the_wait_is_real_too(library, mode):
    """A hang under a short time-out ends in real time."""
    world = World()
    world.server.faults.add("token", Fault.TIMEOUT)
    with world.interceptor, pytest.raises(library.ReadTimeout):
        ask(library, mode, "POST", TOKEN, json=world.refresh, timeout=0.02)


def _held(world):
    hold = Hold("token", 2)
    world.server.holds.append(hold)
    return hold


@both
def test_a_cancelled_task_leaves_an_unknown_outcome(library):
    """Cancelling a task that waits for its reply is journalled as such, and the cancellation goes on."""
    world = World()
    hold = _held(world)

    async def main():
        async with library.AsyncClient() as client:
            task = asyncio.create_task(client.post(TOKEN, json=world.refresh))
            while not hold.waited:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with world.interceptor:
        asyncio.run(main())
    assert world.story() == [("invoke", None), ("info", "cancelled")]
    assert world.server.open == {}


@both
def test_a_deadline_of_the_task_cancels_the_request(library):
    """`asyncio.timeout` around a request ends it as a cancellation."""
    world = World()
    _held(world)

    async def main():
        async with library.AsyncClient() as client, asyncio.timeout(0.01):
            await client.post(TOKEN, json=world.refresh)

    with world.interceptor, pytest.raises(TimeoutError):
        asyncio.run(main())
    assert world.story() == [("invoke", None), ("info", "cancelled")]


def test_a_waiter_that_raises_ends_the_operation():
    """Whatever interrupts the wait of a thread (a signal, the end of a search) is raised again, and journalled."""

    class Interrupted(SimulatedWaiter):
        def wait(self, wait):
            raise KeyboardInterrupt

    world = World(waiter=Interrupted())
    with world.interceptor, pytest.raises(KeyboardInterrupt):
        ask(LIBRARIES[0], "sync", "POST", TOKEN, json=world.refresh)
    assert world.story() == [("invoke", None), ("info", "cancelled")]


@both
@either
def test_a_service_that_ends_lets_its_clients_go(library, mode):
    """A request that the service gives up while its client waits fails like a connection that was closed."""

    class GivesUp(SimulatedWaiter):
        def wait(self, wait):
            for exchange in list(world.server.open.values()):
                exchange.abandon("the end")

    world = World(waiter=GivesUp())
    with world.interceptor, pytest.raises(library.ReadError, match="was closed"):
        ask(library, mode, "POST", TOKEN, json=world.refresh)
    assert world.story() == [("invoke", None), ("info", "the end")]


@both
def test_held_requests_overlap_and_go_on_together(library):
    """Two tasks whose requests are held are both open before either is answered."""
    world = World()
    _held(world)

    async def main():
        async with library.AsyncClient() as client:
            return await asyncio.gather(*(client.post(TOKEN, json=world.refresh) for _ in range(2)))

    with world.interceptor:
        replies = asyncio.run(main())
    assert sorted(reply.status_code for reply in replies) == [200, 400]
    assert [event.type for event in world.events()] == ["invoke", "invoke", "ok", "fail"]


def test_each_request_gives_way_once_or_more():
    """Two tasks that refresh without a lock do overlap in real time: a request is not one atomic step."""
    world = World()

    async def main():
        async with LIBRARIES[1].AsyncClient() as client:
            await asyncio.gather(*(client.post(TOKEN, json=world.refresh) for _ in range(2)))

    with world.interceptor:
        asyncio.run(main())
    assert [event.type for event in world.events()][:2] == ["invoke", "invoke"]
