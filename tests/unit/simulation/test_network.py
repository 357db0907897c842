"""The network in memory: the token hosts and nothing else, for any client of asyncio."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import Any

import anyio
import pytest

from fake_server.faults import Fault
from pytest_claude_tokens.simulation.network import _End
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, PlannedFault, Schedule
from pytest_claude_tokens.violations import BlindReplay, CoSchedule, DoubleSpend
from tests.unit.simulation.worlds import explored, outcome_of
from tests.zoo.common import CALL_URL, HELLO_URL, STREAMED, TOKEN_URL, bearer_header, token_request

aiohttp = pytest.importorskip("aiohttp")
pytestmark = pytest.mark.usefixtures("staged")


def tried(body, schedule=DEFAULT_ORDER, workers=2, **options):
    """The outcome of a body that must not fail."""
    outcome = outcome_of(body, schedule, workers, **options)
    if outcome.error is not None:
        raise outcome.error
    return outcome


def ends(outcome, kind=None):
    return [event for event in outcome.history if event.type in ("ok", "fail", "info") and kind in (None, event.f)]


# aiohttp.


def refreshing(*, locked):
    """A body whose workers refresh with aiohttp."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        login = {"refresh": account.refresh_token, "fresh": False}
        lock = asyncio.Lock()

        async def refresh():
            async with aiohttp.ClientSession() as session:
                async with session.post(TOKEN_URL, json=token_request(login["refresh"])) as response:
                    reply = await response.json()
            if "refresh_token" in reply:
                login.update(refresh=reply["refresh_token"], fresh=True)

        async def job():
            if not locked:
                await refresh()
                return
            async with lock:
                if not login["fresh"]:
                    await refresh()

        await workers(job)

    return body


def test_double_spend_is_found_through_aiohttp():
    """And a sound dispatcher is spared, in any order."""
    assert isinstance(outcome_of(refreshing(locked=False)).error, DoubleSpend)
    with explored(refreshing(locked=True), 3) as run:
        for seed in range(20):
            outcome = run(Schedule(kind="walk", seed=seed))
            assert outcome.error is None
            assert [(event.type, event.status) for event in ends(outcome)] == [("ok", 200)]


@pytest.mark.parametrize(
    ("fault", "end", "error"),
    [
        (Fault.RESET, "info", aiohttp.ClientOSError),
        (Fault.LOST_REPLY, "info", aiohttp.ServerDisconnectedError),
        (Fault.GARBAGE, "info", aiohttp.ClientError),
        (Fault.TRUNCATED, "info", aiohttp.ClientPayloadError),
        (Fault.TIMEOUT, "info", TimeoutError),
        (Fault.status(503), "fail", None),
        (Fault.html(), "fail", None),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_faults_are_what_they_are_on_a_real_network(fault, end, error):
    """aiohttp raises what it would raise; the journal says how the operation ended."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)

        async def job():
            timeout = aiohttp.ClientTimeout(total=30)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                async with session.post(TOKEN_URL, json=token_request(account.refresh_token)) as response:
                    await response.read()
                    return response.status

        if error is None:
            assert (await workers(job))[0] >= 400
        else:
            with pytest.raises(error):
                await workers(job)

    outcome = tried(
        body, Schedule(planned_faults=(PlannedFault(0, "token", fault),)), workers=1, allow=["forced-login"]
    )
    assert [event.type for event in ends(outcome)] == [end]


def test_lost_reply_that_is_sent_again_is_a_blind_replay():
    """Through the network, as through respx."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)

        async def job():
            async with aiohttp.ClientSession() as session:
                for _ in range(2):
                    try:
                        async with session.post(TOKEN_URL, json=token_request(account.refresh_token)) as response:
                            return await response.read()
                    except aiohttp.ClientError:
                        continue
            return None

        await workers(job)

    outcome = outcome_of(body, Schedule(planned_faults=(PlannedFault(0, "token", Fault.LOST_REPLY),)), workers=1)
    assert isinstance(outcome.error, BlindReplay)


def test_streamed_reply_comes_in_pieces_between_which_others_go_on():
    """Two workers on one bearer overlap in some order, and it is seen."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def job():
            async with aiohttp.ClientSession() as session:
                async with session.post(
                    CALL_URL, json=STREAMED, headers=bearer_header(account.access_token)
                ) as response:
                    return [piece async for piece in response.content.iter_any()]

        results.append(await workers(job))

    results: list = []
    assert isinstance(outcome_of(body).error, CoSchedule)
    assert all(len(pieces) >= 2 for pieces in results[0])


def test_connection_kept_alive_works_for_whoever_uses_it():
    """One session for all: its connection is handed from worker to worker, and so are the requests on it."""

    async def body(claude_tokens, workers):
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def job():
                for _ in range(3):
                    async with session.get(HELLO_URL) as response:
                        await response.read()
                    await asyncio.sleep(1)

            await workers(job)

    with explored(body, 3) as run:
        for seed in range(10):
            outcome = run(Schedule(kind="walk", seed=seed))
            assert outcome.error is None
            assert sorted(event.actor for event in ends(outcome)) == [f"w{n}" for n in range(3) for _ in range(3)]


def test_client_that_closes_early_leaves_an_unknown_outcome():
    """It was cancelled while its request was on its way."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def job():
            async with aiohttp.ClientSession() as session:
                async with session.post(CALL_URL, json=STREAMED, headers=bearer_header(account.access_token)):
                    pass

        with pytest.raises(TimeoutError):
            await workers(lambda: asyncio.wait_for(job(), 1))

    outcome = tried(body, workers=1, latency={"call": 5})
    assert [(event.type, event.error) for event in ends(outcome)] == [("info", "client gone")]


def test_other_hosts_do_not_exist():
    """By name or by number; and what is served is served under further names, too."""

    async def body(claude_tokens, workers):
        async def job():
            async with aiohttp.ClientSession() as session:
                async with session.get("https://token.example/api/hello") as response:
                    assert response.status == 200
                for url in ("https://example.com/", "http://93.184.216.34/", "https://192.0.2.77/"):
                    with pytest.raises(aiohttp.ClientConnectorError):
                        await session.get(url)
            with pytest.raises(OSError, match="no such host in the simulated network"):
                await asyncio.open_connection("example.com", 443, ssl=True)

        await workers(job)

    tried(body, workers=1, hosts=["token.example"])


def test_dead_worker_leaves_nothing_open():
    """Its session and its sockets are closed without a word, however far it had come."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def job():
            async with aiohttp.ClientSession() as session:
                async with session.post(
                    CALL_URL, json=STREAMED, headers=bearer_header(account.access_token)
                ) as response:
                    await response.read()

        await workers(job)

    with explored(body, 2, latency={"call": 1}) as run:
        for position in range(0, 60, 2):
            outcome = run(Schedule(deviations=(Deviation(position, "kill", 0, 1),)))
            assert outcome.error is None or isinstance(outcome.error, CoSchedule)
            assert all(event.type in ("ok", "info") for event in ends(outcome))


# Streams of asyncio itself, and of anyio.


def request(path, body=None, *, close=True, host="api.anthropic.com", bearer=""):
    """The bytes of a request."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"host: {host}", f"content-length: {len(data)}"]
    lines += ["content-type: application/json"] if data else []
    lines += [f"authorization: Bearer {bearer}"] if bearer else []
    lines += ["connection: close"] if close else []
    return "\r\n".join([*lines, "", ""]).encode() + data


def test_raw_streams_over_tls_and_without():
    """``open_connection`` by name; TLS is taken as read, but it shows."""

    async def body(claude_tokens, workers):
        async def job():
            for secure in (True, ssl.create_default_context(), None):
                reader, writer = await asyncio.open_connection("api.anthropic.com", 443, ssl=secure)
                assert (writer.get_extra_info("sslcontext") is not None) == bool(secure)
                assert writer.can_write_eof() == (not secure)
                assert writer.get_extra_info("peername")[1] == 443
                writer.write(request("/api/hello"))
                await writer.drain()
                reply = await reader.read()
                assert reply.startswith(b"HTTP/1.1 200")
                writer.close()
                await writer.wait_closed()

        await workers(job)

    tried(body)


def test_sending_side_that_is_shut_down():
    """As over TLS, where there is no half-close: the client has gone, and gets no answer."""

    async def body(claude_tokens, workers):
        async def job():
            reader, writer = await asyncio.open_connection("127.0.0.1", 80)
            writer.write(request("/api/hello", close=False, host="127.0.0.1"))
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

        await workers(job)

    outcome = tried(body, workers=1)
    assert [event.error for event in ends(outcome)] == ["client gone"]


def test_pieces_arrive_in_the_order_in_which_they_were_sent():
    """Whatever the schedule does to whom, a connection doesn't shuffle what is on it."""

    async def body(claude_tokens, workers):
        async def job():
            reader, writer = await asyncio.open_connection("api.anthropic.com", 443, ssl=True)
            data = request("/api/hello")
            for start in range(0, len(data), 7):
                writer.write(data[start : start + 7])
                if start % 3 == 0:
                    await asyncio.sleep(0)
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()

        await workers(job)

    with explored(body, 3) as run:
        for seed in range(20):
            assert run(Schedule(kind="walk", seed=seed)).error is None


def test_streams_of_anyio():
    """It pauses reading before anybody asks for data, and looks for a socket."""

    async def body(claude_tokens, workers):
        async def job():
            async with await anyio.connect_tcp("api.anthropic.com", 443) as stream:
                await stream.send(request("/api/hello"))
                received = b""
                with pytest.raises(anyio.EndOfStream):
                    while True:
                        received += await stream.receive(10)
                assert received.startswith(b"HTTP/1.1 200")

        await workers(job)

    tried(body)


def test_socket_of_ones_own():
    """Connected with the loop, then handed to it; one that was never connected is refused."""

    async def body(claude_tokens, workers):
        async def job():
            loop = asyncio.get_running_loop()
            with socket.socket() as sock:
                sock.setblocking(False)
                ((*_, address),) = await loop.getaddrinfo(b"api.anthropic.com", 443)
                await loop.sock_connect(sock, address)
                reader, writer = await asyncio.open_connection(sock=sock)
                writer.write(request("/api/hello"))
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
            with socket.socket() as stranger, pytest.raises(OSError, match="was not connected"):
                await asyncio.open_connection(sock=stranger)
            with socket.socket() as stranger, pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(stranger, ("10.0.0.1", 443))

        await workers(job)

    tried(body)


class Recorder(asyncio.Protocol):
    """A protocol that notes what it is told."""

    def __init__(self, *, stay=False):
        self.told: list[Any] = []
        self.stay = stay

    def connection_made(self, transport):
        self.told.append("made")

    def data_received(self, data):
        self.told.append(data[:15])

    def eof_received(self):
        self.told.append("eof")
        return self.stay

    def connection_lost(self, exc):
        self.told.append(("lost", type(exc).__name__))


def test_transport_behaves_as_transports_do():
    """It pauses, resumes, aborts, closes once, and writes no more then."""

    async def body(claude_tokens, workers):
        loop = asyncio.get_running_loop()

        async def job():
            transport, protocol = await loop.create_connection(Recorder, "api.anthropic.com", 443, ssl=True)
            assert isinstance(transport, asyncio.Transport)
            assert transport.get_protocol() is protocol
            assert transport.get_extra_info("socket").getpeername()[1] == 443
            transport.pause_reading()
            assert not transport.is_reading()
            transport.write(b"")
            transport.write(request("/api/hello", close=False))
            await asyncio.sleep(1)
            assert protocol.told == ["made"]
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await asyncio.sleep(1)
            assert protocol.told[1] == b"HTTP/1.1 200 OK"
            assert transport.get_write_buffer_size() == 0
            assert transport.get_write_buffer_limits() == (0, 0)
            transport.set_write_buffer_limits(high=1)
            assert not transport.is_closing()
            transport.abort()
            transport.close()
            transport.write(b"more")
            assert transport.is_closing()
            await asyncio.sleep(1)
            assert protocol.told[2:] == [("lost", "NoneType")]

        await workers(job)

    tried(body, workers=1)


def test_end_of_the_stream_closes_a_protocol_that_does_not_want_to_stay():
    """One that wants to may still write, and close by itself; what is paused hears of it later."""

    async def body(claude_tokens, workers):
        loop = asyncio.get_running_loop()

        async def job():
            for stay in (False, True):
                transport, protocol = await loop.create_connection(
                    lambda stay=stay: Recorder(stay=stay), "api.anthropic.com", 443
                )
                transport.write(request("/api/hello"))
                await asyncio.sleep(1)
                end = [] if stay else [("lost", "NoneType")]
                assert protocol.told[2:] == ["eof", *end]
                transport.close()
                await asyncio.sleep(1)
                assert protocol.told[2:] == ["eof", ("lost", "NoneType")]

        await workers(job)

    tried(body, workers=1)


def test_protocol_that_closes_at_the_end_of_the_stream():
    """It has closed by itself, and hears of that once."""

    class Closing(Recorder):
        def connection_made(self, transport):
            self.transport = transport

        def eof_received(self):
            self.transport.close()

    async def body(claude_tokens, workers):
        async def job():
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_connection(Closing, "api.anthropic.com", 443, ssl=True)
            transport.write(request("/api/hello"))
            await asyncio.sleep(1)
            assert protocol.told[1:] == [("lost", "NoneType")]

        await workers(job)

    tried(body, workers=1)


def test_two_ends_of_a_connection():
    """A reset after the end of the stream still ends it; nobody hears anything twice."""

    async def body(claude_tokens, workers):
        loop = asyncio.get_running_loop()
        near, far = _End(loop, None, None), _End(loop, None, None)
        one, two = Recorder(stay=True), Recorder(stay=True)
        near.join(far, one)
        far.join(near, two)
        replaced = Recorder(stay=True)
        near.set_protocol(replaced)
        far.write_eof()
        far.write(b"after the end")
        far.abort()
        await asyncio.sleep(1)
        assert replaced.told == ["eof", b"after the end"[:15], ("lost", "ConnectionResetError")]
        assert two.told == [("lost", "NoneType")]
        assert one.told == []
        await workers(lambda: asyncio.sleep(0))

    tried(body, workers=1)
