"""The simulated network under asyncio's and anyio's own streams, and its transports by themselves."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pytest_claude_tokens.simulation.network import _End
from pytest_claude_tokens.simulation.schedule import Schedule
from tests.unit.simulation.worlds import ends, explored, tried

pytestmark = pytest.mark.usefixtures("staged")


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
        network = SimpleNamespace(loop=loop, note_request=lambda task: None)
        near, far = _End(network, None, None), _End(network, None, None)
        one, two = Recorder(stay=True), Recorder(stay=True)
        near.join(far, one)
        far.join(near, two)
        replaced = Recorder(stay=True)
        near.set_protocol(replaced)
        far.write_eof()
        far.write(b"after the end")
        far.abort()
        await asyncio.sleep(1)
        assert replaced.told == ["eof", b"after the end", ("lost", "ConnectionResetError")]
        assert two.told == [("lost", "NoneType")]
        assert one.told == []
        await workers(lambda: asyncio.sleep(0))

    tried(body, workers=1)
