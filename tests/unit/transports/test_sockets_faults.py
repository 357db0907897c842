"""How connections go wrong: on purpose, and because clients leave."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from fake_server.clock import Clock
from fake_server.core.hold import Hold
from fake_server.effects import Break, Piece, Signal, Wait
from fake_server.exchange import Exchange
from fake_server.faults import Fault
from fake_server.policy import Policy
from fake_server.protocol.wire import Request
from fake_server.server import Server
from fake_server.transports.sockets import SocketServer
from tests.unit.transports.raw import Watch, a_server, call, raw, request, token_request


@pytest.fixture
def grant(server):
    return server.login("a")


def ends(server):
    return [(event.type, event.error) for event in server.journal.events if event.type in ("ok", "fail", "info")]


# Faults.


def test_a_reset_is_a_reset(server, listener, grant):
    """The client gets RST, not an orderly end, and nothing was committed."""
    server.faults.add("token", Fault.RESET)
    with raw(listener.port) as client:
        client.send(token_request(grant.refresh[0].secret))
        with pytest.raises(ConnectionResetError):
            client.to_the_end()
    assert ends(server) == [("info", "connection reset")]


def test_a_lost_reply_is_an_end_without_a_byte(server, listener, grant):
    """The token is spent, and the client sees an orderly end of the connection."""
    server.faults.add("token", Fault.LOST_REPLY)
    with raw(listener.port) as client:
        client.send(token_request(grant.refresh[0].secret))
        assert client.to_the_end() == b""
    assert ends(server) == [("info", "lost-reply")]
    assert server.authority.accepted(grant, server.clock.now()) == ("rt#2",)


def test_a_body_that_is_held_back_begins_at_once(server, listener, grant):
    """Head and beginning are there while the rest is awaited."""
    server.faults.add("token", Fault.stall(600, part="body"))
    with raw(listener.port) as client:
        client.send(token_request(grant.refresh[0].secret))
        assert b" 200 " in client.take(b"\r\n\r\n")
        assert b"token_type" in client.take(b"access_token")
        assert len(server.open) == 1


def test_a_head_that_is_held_back_comes_in_the_end(server, listener, grant):
    """With the body."""
    server.faults.add("call", Fault.stall(0.01))
    with raw(listener.port) as client:
        client.send(call(grant.access[0].secret))
        assert client.reply().status == 200


def test_a_hang_ends_when_the_client_leaves(server, listener, grant, watch):
    """Nothing is sent; the outcome is a time-out as soon as the client has closed."""
    server.faults.add("token", Fault.TIMEOUT)
    with raw(listener.port) as client:
        client.send(token_request(grant.refresh[0].secret))
        watch.of("invoke")
        client.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.to_the_end()
        assert ends(server) == []
    assert [event.error for event in watch.of("info")] == ["timeout"]


def test_a_hang_ends_with_the_server(server, grant, watch):
    """A client that waits for ever timed out, for the journal."""
    server.faults.add("token", Fault.TIMEOUT)
    listener = SocketServer(server)
    listener.start()
    with raw(listener.port) as client:
        client.send(token_request(grant.refresh[0].secret))
        watch.of("invoke")
        with httpx.Client() as other:  # the hanging exchange has reached its hang once another one was served
            assert other.get(f"{listener.url}/api/hello").status_code == 200
        listener.stop()
    assert ends(server)[-1] == ("info", "timeout")


def test_garbage_is_not_http(server, listener, grant):
    """Bytes that are no HTTP, then the end."""
    server.faults.add("token", Fault.GARBAGE)
    with raw(listener.port) as client:
        client.send(token_request(grant.refresh[0].secret))
        assert client.to_the_end().startswith(b"\x16\x03")
    assert ends(server) == [("info", "garbage")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_truncated_reply_promises_more_than_it_brings(server, listener, grant, stream):
    """A complete head and half of the first piece: no client can take it for a whole reply."""
    server.faults.add("call", Fault.TRUNCATED)
    with raw(listener.port) as client:
        client.send(call(grant.access[0].secret, stream=stream))
        head, _, body = client.to_the_end().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) > 100
    assert (b"chunked" in head) == stream
    assert not body.endswith(b"0\r\n\r\n")
    assert ends(server) == [("info", "truncated")]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.RESET, httpx.ReadError),
        (Fault.LOST_REPLY, httpx.RemoteProtocolError),
        (Fault.GARBAGE, httpx.RemoteProtocolError),
        (Fault.TRUNCATED, httpx.RemoteProtocolError),
        (Fault.TIMEOUT, httpx.ReadTimeout),
    ],
)
def test_a_client_meets_the_error_that_it_knows(listener, grant, fault, error, watch):
    """Each fault is the exception that a real network would have caused."""
    listener.server.faults.add("token", fault)
    content = token_request(grant.refresh[0].secret).partition(b"\r\n\r\n")[2]
    with pytest.raises(error), httpx.Client(base_url=listener.url, timeout=5) as client:
        client.post("/v1/oauth/token", content=content, timeout=0.1 if fault is Fault.TIMEOUT else 5)
    assert [event.get("fault") for event in watch.of("info")] == [str(fault)]


@pytest.mark.parametrize(
    "fault", [Fault.BURST, Fault.status(503, 2), Fault.status(499), Fault.quota(), Fault.html(), Fault.moved()], ids=str
)
def test_a_fault_that_answers_keeps_the_connection(server, listener, grant, fault):
    """A complete error reply is one of HTTP; the next request on the connection is served."""
    server.faults.add("token", fault)
    with raw(listener.port) as client:
        client.send(token_request(grant.refresh[0].secret), token_request(grant.refresh[0].secret))
        assert [client.reply().status, client.reply().status] == [fault.code, 200]


# Clients that leave.


def test_a_client_that_leaves_the_queue_is_gone(server, listener, grant, watch):
    """The call that nobody waits for ends as unknown, once, and the next one in the queue is served."""
    bearer = grant.access[0].secret
    hold = Hold("call", 1)
    server.policy = Policy(latency={"call": 30})
    with raw(listener.port) as two:
        with raw(listener.port) as one:
            one.send(call(bearer))
            watch.of("invoke")
            two.send(call(bearer))
            watch.of("invoke", count=2)
            server.policy = Policy()
        watch.of("info")
        assert two.reply().status == 200
    assert ends(server) == [("info", "client gone"), ("ok", None)]
    assert hold.open


def test_a_client_that_resets_is_gone(server, listener, grant, watch):
    """A client's RST says the same as its end."""
    server.holds.append(Hold("call", 2))
    with raw(listener.port) as client:
        client.send(call(grant.access[0].secret))
        watch.of("invoke")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert [event.error for event in watch.of("info")] == ["client gone"]


def test_a_client_that_only_stops_sending_is_answered(server, listener, grant, watch):
    """Half-closed is not gone: the client still reads. It may see an interim reply, which means nothing."""
    hold = Hold("call", 2)
    server.holds.append(hold)
    with raw(listener.port) as client:
        client.send(call(grant.access[0].secret))
        watch.of("invoke")
        client.half_close()
        with httpx.Client() as other:
            other.get(f"{listener.url}/api/hello")
        with server.lock:
            hold.release()
        assert client.reply().status == 200
        assert client.interim <= 1
        assert client.to_the_end() == b""


def test_an_old_client_that_stops_sending_is_answered(server, listener, grant, watch):
    """HTTP/1.0 knows no interim reply; its half-close is believed."""
    hold = Hold("call", 2)
    server.holds.append(hold)
    with raw(listener.port) as client:
        client.send(call(grant.access[0].secret, "Connection: keep-alive", version="1.0"))
        watch.of("invoke")
        client.half_close()
        with httpx.Client() as other:
            other.get(f"{listener.url}/api/hello")
        with server.lock:
            hold.release()
        assert client.to_the_end().startswith(b"HTTP/1.1 200 ")


def test_the_refusal_of_a_half_closed_client_ends_the_connection(server, listener, grant, watch):
    """A bad request behind a good one is refused although its client sends no more."""
    hold = Hold("call", 2)
    server.holds.append(hold)
    with raw(listener.port) as client:
        client.send(call(grant.access[0].secret) + request("GET", "http://example.com/"))
        watch.of("invoke")
        client.half_close()
        with httpx.Client() as other:
            other.get(f"{listener.url}/api/hello")
        with server.lock:
            hold.release()
        assert [client.reply().status, client.reply().status] == [200, 403]
        assert client.to_the_end() == b""


@pytest.mark.parametrize("cut", [10, 60, -1])
def test_half_a_request_is_none(server, listener, grant, cut):
    """A request that never was complete is not journalled, and nobody is left behind."""
    with raw(listener.port) as client:
        client.send(token_request(grant.refresh[0].secret)[:cut])
        client.half_close()
        assert client.to_the_end() == b""
    assert [event.f for event in server.journal.events] == ["login"]


def test_the_end_of_the_server_is_an_unknown_outcome(server, grant, watch):
    """What is open when the server stops ends as unknown, and says why."""
    server.holds.append(Hold("call", 2))
    with SocketServer(server) as listener, raw(listener.port) as client:
        client.send(call(grant.access[0].secret))
        watch.of("invoke")
        listener.stop()
        assert client.to_the_end() == b""
    assert ends(server) == [("info", "server stopped")]


def test_an_exchange_that_was_abandoned_elsewhere_ends_its_connection(server, grant, watch):
    """Where somebody else has given an operation up, its client is not left waiting."""
    go_on = Signal()

    def pace(_, wait):
        return Wait(wait.why, signal=go_on)

    with SocketServer(server, wait_hook=pace) as listener, raw(listener.port) as client:
        client.send(call(grant.access[0].secret))
        watch.of("invoke")
        next(iter(server.open.values())).abandon("the test has ended")
        with server.lock:
            go_on.fire()
        assert client.to_the_end() == b""
    assert ends(server) == [("info", "the test has ended")]


def test_a_late_signal_harms_nobody(server, grant, watch):
    """A hold that is released after the server has stopped wakes nobody."""
    hold = Hold("call", 2)
    server.holds.append(hold)
    with SocketServer(server) as listener, raw(listener.port) as client:
        client.send(call(grant.access[0].secret))
        watch.of("invoke")
        listener.stop()
    with server.lock:
        hold.release()
    assert ends(server) == [("info", "server stopped")]


def test_an_observer_that_raises_leaves_no_client_waiting(server, listener, caplog):
    """An exception in the midst of an exchange ends the connection, and is logged."""

    def observer(event):
        if event.type == "ok":
            raise RuntimeError("a broken store")

    server.journal.observers.append(observer)
    with raw(listener.port) as client:
        client.send(request("GET", "/api/hello"))
        assert client.to_the_end() == b""
    assert "a broken store" in caplog.text


# One history, whichever way in.


def by_hand(server, steps):
    """The scenario without a transport."""
    for method, path, headers, body in steps:
        exchange = Exchange(server, Request.parse(method, path, headers, body, "api.anthropic.com"), "me")
        while not isinstance(effect := exchange.step(), Break | None):
            assert isinstance(effect, Wait | Piece) or effect.status
        if effect is not None and effect.how == "hang":
            exchange.abandon("timeout")


def over_sockets(server, steps):
    """The scenario, each request on a connection of its own."""
    watch = Watch(server)
    with SocketServer(server) as listener:
        for number, (method, path, headers, body) in enumerate(steps, start=1):
            lines = [f"{name}: {value}" for name, value in headers]
            with raw(listener.port) as client:
                client.send(request(method, path, body, *lines, "Connection: close", host="api.anthropic.com"))
                watch.of("invoke", count=number)
                hangs = str(getattr(server.open.get(number), "_fault", "")) == "timeout"
                if not hangs:
                    with contextlib.suppress(ConnectionResetError):
                        client.to_the_end()
            watch.of("ok", "fail", "info", count=number)


def the_scenario(server):
    """Requests of every kind, every fault once, and a spent token."""
    one, two = server.login("one"), server.login("two", expires_in=0)
    setup = server.login("three", setup_token=True)
    token = {"grant_type": "refresh_token", "client_id": "x"}
    json_headers = (("content-type", "application/json"),)

    def refresh(grant, index=0):
        secret = grant.refresh[index].secret if index < len(grant.refresh) else "unknown"
        return ("POST", "/v1/oauth/token", json_headers, json.dumps({**token, "refresh_token": secret}).encode())

    def ask(grant, *, stream=False, path="/v1/messages"):
        bearer = (("authorization", f"Bearer {grant.access[0].secret}"),)
        return ("POST", path, (*json_headers, *bearer), json.dumps({"stream": stream}).encode())

    faults = (Fault.RESET, Fault.BURST, Fault.TIMEOUT, Fault.status(503), Fault.moved(), Fault.html(), Fault.quota())
    for fault in (*faults, Fault.GARBAGE, Fault.delay(0.001), Fault.LOST_REPLY):
        server.faults.add("token", fault)
    server.faults.add("call", Fault.TRUNCATED)
    server.faults.add("call", Fault.delay(0.001, after_commit=True))
    yield from [refresh(one)] * 10
    yield from [ask(one), ask(one), ask(one, stream=True), ask(two), ask(setup, stream=True)]
    yield from [refresh(two), refresh(two), refresh(two, 5), ask(one, path="/v1/messages/count_tokens")]
    yield ("HEAD", "/", (), b"")
    yield ("POST", "/v1/oauth/token", (), b"not JSON")
    yield ("POST", "/v1/oauth/token/revoke", json_headers, json.dumps({"token": two.refresh[0].secret}).encode())


def test_both_ways_in_give_the_same_history():
    """One scenario, in process and over sockets: the journals differ in nothing but who asked."""
    journals = []
    for drive in (by_hand, over_sockets):
        server = Server(Policy(), Clock(lambda: 1000.0), a_server().stopwatch, namespace="same")
        drive(server, list(the_scenario(server)))
        assert server.open == {}
        lines = [json.loads(event.to_json()) for event in server.journal.events]
        for line in lines:
            del line["actor"], line["t"]
        journals.append(lines)
    assert len(journals[0]) > 40
    assert journals[0] == journals[1]


def test_a_burst_has_one_winner(server, listener):
    """Of 16 that spend one refresh token at one time, one wins."""
    secret = server.login("b").refresh[0].secret

    def spend(_):
        with raw(listener.port) as client:
            client.send(token_request(secret))
            return client.reply().status

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(spend, range(16))) == [200] + [400] * 15
