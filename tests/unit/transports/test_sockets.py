"""HTTP over loopback sockets: its clients, many of them at once, and where it listens."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import freezegun
import httpx
import pytest
import requests

from fake_server.core.hold import Hold
from fake_server.effects import Signal, Wait
from fake_server.policy import Policy
from fake_server.transports.sockets import SocketServer
from tests.unit.transports.raw import (
    PATIENCE,
    Watch,
    a_server,
    call,
    call_body,
    invokes,
    meanwhile,
    raw,
    request,
    token_body,
    token_request,
)

# Clients.


def test_httpx_refreshes_and_calls(server, listener):
    """A common client gets the service's replies, whole and streamed."""
    grant = server.login("alice")
    with httpx.Client(base_url=listener.url) as client:
        answer = client.post("/v1/oauth/token", content=token_body(grant.refresh[0].secret))
        bearer = {"authorization": f"Bearer {answer.json()['access_token']}"}
        whole = client.post("/v1/messages?beta=true", content=call_body(text="B"), headers=bearer)
        streamed = client.post("/v1/messages", content=call_body(stream=True, text="C"), headers=bearer)
    assert answer.status_code == 200
    assert whole.json()["content"] == [{"type": "text", "text": "B"}]
    assert '"text":"C"' in streamed.text
    assert streamed.text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert [event.type for event in server.journal.events if event.op] == ["invoke", "note", "ok"] + [
        "invoke",
        "ok",
    ] * 2


def test_requests_sends_a_form(server, listener):
    """A form-encoded token request is accepted."""
    data = {"grant_type": "refresh_token", "refresh_token": server.login("a").refresh[0].secret, "client_id": "x"}
    with requests.post(f"{listener.url}/v1/oauth/token", data=data, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
    assert invokes(server)[0].get("encoding") == "form"


def test_the_standard_library_asks(server, listener):
    """``http.client`` gets a reply, and a 404 at once for what nobody knows."""
    connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=PATIENCE)
    connection.request("GET", "/nowhere")
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["type"]) == (404, "not_found_error")
    connection.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_offers_an_upgrade_and_expects_to_continue(server, listener):
    """A client that offers HTTP/2 and sends ``Expect`` for a body of 100 kB is answered in HTTP/1.1."""
    arguments = ["curl", "-sS", "--http2", "-H", "Expect: 100-continue", "-H", "Content-Type: application/json"]
    data = json.dumps({"messages": [{"role": "user", "content": "Reply: " + "x" * 100_000}]})
    bearer = f"Authorization: Bearer {server.login('a').access[0].secret}"
    done = subprocess.run(
        [*arguments, "-H", bearer, "--noproxy", "*", "--data-binary", "@-", f"{listener.url}/v1/messages"],
        input=data.encode(),
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert len(json.loads(done.stdout)["content"][0]["text"]) == 100_000


# Many at once.


def test_five_hundred_connections_lose_nothing(server, listener):
    """Every one of 500 clients that connect and ask at one time is answered."""
    with ExitStack() as stack:
        clients = [stack.enter_context(raw(listener.port)) for _ in range(500)]
        for client in clients:
            client.send(request("GET", "/api/hello"))
        assert [client.reply().status for client in clients] == [200] * 500
    assert {event.actor for event in invokes(server)} == {f"c{n}" for n in range(1, 501)}


def test_what_comes_at_one_time_is_open_at_one_time(server, listener):
    """Requests that had come before the first was answered are journalled as overlapping."""
    with ExitStack() as stack:
        clients = [stack.enter_context(raw(listener.port)) for _ in range(8)]
        for client in clients:  # so that all are accepted
            client.send(request("GET", "/api/hello"))
            assert client.reply().status == 200
        secret = server.login("a").refresh[0].secret
        with server.lock:  # the loop's thread waits here, while all of them arrive
            for client in clients:
                client.send(token_request(secret))
        statuses = sorted(client.reply().status for client in clients)
    assert statuses == [200] + [400] * 7
    kinds = [event.type for event in server.journal.events if event.f == "token"]
    assert kinds.index("ok") > 4


def test_calls_on_one_bearer_take_turns(listener, server):
    """The second call waits at the gate until the body of the first has ended."""
    watch = Watch(server)
    bearer = server.login("a").access[0].secret
    hold = Hold("call", 2)
    server.holds.append(hold)
    with raw(listener.port) as one, raw(listener.port) as two:
        one.send(call(bearer, stream=True))
        watch.of("invoke")
        two.send(call(bearer, stream=True))
        assert (one.reply().status, two.reply().status) == (200, 200)
    assert hold.waited == ["c1", "c2"]
    assert [event.type for event in watch.of("invoke", "ok")] == ["invoke", "invoke", "ok", "ok"]
    assert [event.f for event in server.journal.events].count("queue") == 1


def test_a_pace_may_replace_every_wait(server):
    """A schedule decides when a request that has arrived goes on."""
    watch = Watch(server)
    go_on = Signal()

    def pace(exchange, wait):
        return Wait(wait.why, signal=go_on) if exchange.actor == "w0" else wait

    with SocketServer(server, wait_hook=pace) as listener, raw(listener.port) as one, raw(listener.port) as two:
        one.send(request("GET", "/w/w0/api/hello"))
        watch.of("invoke")
        two.send(request("GET", "/w/w1/api/hello"))
        assert two.reply().status == 200
        with server.lock:
            go_on.fire()
        assert one.reply().status == 200
    assert [event.actor for event in watch.of("ok")] == ["w1", "w0"]


def test_a_wait_ends_once(server):
    """A signal that comes after its wait was over does not end the wait of another request."""
    watch = Watch(server)
    late, go_on = Signal(), Signal()

    def pace(exchange, wait):
        return Wait(wait.why, seconds=0.0, signal=late) if exchange.op == 1 else Wait(wait.why, signal=go_on)

    with SocketServer(server, wait_hook=pace) as listener, raw(listener.port) as client:
        client.send(request("GET", "/api/hello"))
        assert client.reply().status == 200
        client.send(request("GET", "/api/hello"))
        watch.of("invoke", count=2)
        with server.lock:
            late.fire()
        meanwhile(listener)
        assert [event.type for event in server.journal.events] == ["invoke", "ok", "invoke"]
        with server.lock:
            go_on.fire()
        assert client.reply().status == 200


def test_a_server_that_is_to_end_takes_nothing_new(server, listener):
    """What is open ends, and is answered; a request that comes later is not even journalled."""
    watch = Watch(server)
    hold = Hold("call", 2)
    server.holds.append(hold)
    with raw(listener.port) as one, raw(listener.port) as two:
        two.send(request("GET", "/api/hello"))
        assert two.reply().status == 200
        one.send(call(server.login("a").access[0].secret))
        watch.of("invoke", count=2)
        stopping = threading.Thread(target=listener.stop, args=(PATIENCE,))
        stopping.start()
        pause = threading.Event()
        while not listener.draining:
            pause.wait(0.001)
        two.send(request("GET", "/api/hello"))
        meanwhile(listener)
        with server.lock:
            hold.release()
        assert one.reply().status == 200
        assert one.to_the_end() == b""
        assert two.to_the_end() == b""
        stopping.join()
    assert len(invokes(server)) == 2


def test_latency_passes_while_time_is_frozen(listener, server):
    """A frozen clock does not stop the service: its waits are real."""
    server.policy = Policy(latency=0.02)
    with freezegun.freeze_time("2026-01-01"), raw(listener.port) as client:
        client.send(request("GET", "/api/hello"))
        assert client.reply().status == 200


def test_a_server_started_in_frozen_time_serves():
    """Its event loop has the real time, whenever it was made."""
    with freezegun.freeze_time("2026-01-01"):
        server = a_server(Policy(latency=0.02))
        with SocketServer(server) as listener, raw(listener.port) as client:
            client.send(request("GET", "/api/hello"))
            assert client.reply().status == 200
        assert server.clock.now() == 1767225600


# Where it listens.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_only_loopback_is_bound(server, host):
    """Any other address is refused, in a sentence with the word ``loopback``."""
    with pytest.raises(ValueError, match="loopback"):
        SocketServer(server, host)


def test_localhost_is_loopback(server):
    """A name for this machine is taken as its address."""
    with SocketServer(server, "localhost") as listener:
        assert listener.url == f"http://127.0.0.1:{listener.port}"


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_ipv6_has_a_loopback_too(server):
    """``::1`` is served, and its URL has brackets."""
    try:
        listener = SocketServer(server, "::1")
        listener.start()
    except OSError:
        pytest.skip("needs an IPv6 loopback interface")
    with raw(listener.port, "::1") as client:
        client.send(request("GET", "/api/hello"))
        assert client.reply().status == 200
    assert listener.url == f"http://[::1]:{listener.port}"
    listener.stop()


def test_a_port_in_use_is_an_error(server, listener):
    """The error is raised where the server is started, and leaves nothing open."""
    with pytest.raises(OSError, match="in use"):
        SocketServer(server, port=listener.port).start()


def test_threads_end_with_the_server(server):
    """After ``stop`` no thread is left, nobody is answered, and stopping again does nothing."""
    before = threading.active_count()
    listener = SocketServer(server)
    listener.stop()
    listener.start()
    with raw(listener.port) as idle:
        listener.stop()
        listener.stop()
        with contextlib.suppress(ConnectionResetError):  # it depends on whether it had been accepted
            assert idle.to_the_end() == b""
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError), raw(listener.port):
        pass


def test_many_clients_at_once_while_it_stops(server):
    """Stopping amid traffic ends: each request is answered or its connection ends, and no operation stays open."""
    listener = SocketServer(server)
    listener.start()
    watch = Watch(server)

    def ask(_):
        with httpx.Client(base_url=listener.url, timeout=PATIENCE) as client:
            try:
                while client.get("/api/hello").status_code == 200:
                    pass
            except httpx.TransportError:
                return True

    with ThreadPoolExecutor(4) as pool:
        asking = pool.map(ask, range(4))
        watch.of("ok", count=20)
        listener.stop()
        assert list(asking) == [True] * 4
    assert server.open == {}
