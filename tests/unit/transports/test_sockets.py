"""HTTP over loopback sockets: framing, limits, and who sent it."""

from __future__ import annotations

import base64
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
from fake_server.transports.loopback.http1 import BODY_LIMIT, HEAD_LIMIT
from fake_server.transports.sockets import Local, SocketServer
from tests.unit.transports.raw import (
    PATIENCE,
    Watch,
    a_server,
    call,
    call_body,
    raw,
    request,
    token_body,
    token_request,
)


@pytest.fixture
def server():
    return a_server()


@pytest.fixture
def listener(server):
    with SocketServer(server) as listener:
        yield listener


def invokes(server):
    return [event for event in server.journal.events if event.type == "invoke"]


def meanwhile(listener):
    """Come back when the loop has seen all that was sent to it before."""
    done = threading.Event()
    turns = iter(range(3))

    def turn():
        if next(turns, None) is None:
            done.set()
        else:
            listener.call(turn)

    listener.call(turn)
    assert done.wait(PATIENCE)


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


# Framing.


def test_a_connection_is_kept_alive(server, listener):
    """Requests on one connection are of one actor; the next connection is another one."""
    with raw(listener.port) as one, raw(listener.port) as two:
        for client in (one, one, two):
            client.send(request("GET", "/api/hello"))
            assert client.reply().json == {"message": "hello"}
    assert [event.actor for event in invokes(server)] == ["c1", "c1", "c2"]


def test_pipelined_requests_are_answered_in_order(server, listener):
    """Many requests in one piece are answered one by one, more than may wait at a time, too."""
    with raw(listener.port) as client:
        client.send(b"".join(request("GET", f"/{n}") for n in range(200)))
        for _ in range(200):
            assert client.reply().status == 404
        client.send(request("GET", "/api/hello"))
        assert client.reply().status == 200
    assert [event.get("path") for event in invokes(server)[:-1]] == [f"/{n}" for n in range(200)]


def test_a_request_may_come_byte_by_byte(server, listener):
    """Nothing depends on how the bytes were cut."""
    with raw(listener.port) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.send(*(bytes([byte]) for byte in token_request(server.login("a").refresh[0].secret)))
        assert client.reply().status == 200


def test_a_chunked_body_is_joined(server, listener):
    """Chunks are joined; extensions and trailers mean nothing."""
    body = token_body(server.login("a").refresh[0].secret)
    chunked = b"5;x=y\r\n%b\r\n%x\r\n%b\r\n0\r\nAuthorization: Bearer x\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
    with raw(listener.port) as client:
        client.send(request("POST", "/v1/oauth/token", b"", "Transfer-Encoding: chunked"), chunked)
        assert client.reply().status == 200
    assert invokes(server)[0].bearer is None


def test_expect_continue_is_answered_before_the_body(server, listener):
    """A client that waits for ``100 Continue`` gets it, once."""
    head, _, body = token_request(server.login("a").refresh[0].secret, "Expect: 100-continue").partition(b"\r\n\r\n")
    with raw(listener.port) as client:
        client.send(head + b"\r\n\r\n")
        assert client.take(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        client.send(body)
        assert client.reply().status == 200
        assert client.interim == 0


def test_expect_continue_waits_for_the_reply_before(listener):
    """An interim reply never comes amid the reply to the request before."""
    with raw(listener.port) as client:
        client.send(
            request("GET", "/api/hello") + request("POST", "/x", b"", "Content-Length: 1", "Expect: 100-continue")
        )
        assert client.reply().status == 200
        assert client.interim == 0
        assert client.take(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        client.send(b"x")
        assert client.reply().status == 404


def test_an_old_client_gets_no_interim_reply(listener):
    """HTTP/1.0 has no ``100 Continue``."""
    with raw(listener.port) as client:
        client.send(request("POST", "/x", b"", "Content-Length: 1", "Expect: 100-continue", version="1.0"))
        meanwhile(listener)
        client.send(b"x")
        assert client.to_the_end().startswith(b"HTTP/1.1 404 ")


def test_head_has_a_length_and_no_body(server, listener):
    """``HEAD`` is answered at once, with the length of what ``GET`` would bring."""
    with raw(listener.port) as client:
        client.send(request("HEAD", "/"), request("HEAD", "/api/hello"), request("GET", "/api/hello"))
        assert client.reply(bodiless=True).status == 404
        head = client.reply(bodiless=True)
        whole = client.reply()
    assert head.headers["content-length"] == str(len(whole.body))


def test_a_client_may_ask_to_close(listener):
    """``Connection: close`` is obeyed and repeated."""
    with raw(listener.port) as client:
        client.send(request("GET", "/api/hello", b"", "Connection: close"))
        assert client.reply().headers["connection"] == "close"
        assert client.to_the_end() == b""


@pytest.mark.parametrize("keep", [False, True])
def test_an_old_client_closes_unless_it_asks(listener, keep):
    """HTTP/1.0 keeps a connection only where it says so, and is told so."""
    with raw(listener.port) as client:
        client.send(request("GET", "/api/hello", b"", *["Connection: keep-alive"] * keep, version="1.0"))
        assert client.reply().headers["connection"] == ("keep-alive" if keep else "close")
        if keep:
            client.send(request("GET", "/api/hello"))
            assert client.reply().status == 200
        else:
            assert client.to_the_end() == b""


def test_an_old_client_reads_a_stream_to_its_end(server, listener):
    """HTTP/1.0 knows no chunks: the end of the connection is the end of the body, whatever was asked."""
    bearer = server.login("a").access[0].secret
    with raw(listener.port) as client:
        client.send(call(bearer, "Connection: keep-alive", stream=True, version="1.0"))
        answer = client.reply()
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    assert answer.body.endswith(b'{"type":"message_stop"}\n\n')


def test_an_offered_upgrade_is_ignored(server, listener):
    """An offer of another protocol is answered in this one, and so is the request behind it."""
    upgrade = ("Connection: Upgrade", "Upgrade: h2c")
    with raw(listener.port) as client:
        client.send(call(server.login("a").access[0].secret, *upgrade) + request("GET", "/api/hello"))
        assert client.reply().json["content"][0]["text"] == "A"
        assert client.reply().status == 200


# Limits.


def test_a_large_body_is_read(server, listener):
    """The 100 kB of a real call are nothing special."""
    with raw(listener.port) as client:
        client.send(call(server.login("a").access[0].secret, text="x" * 100_000))
        assert len(client.reply().json["content"][0]["text"]) == 100_000


@pytest.mark.parametrize("how", ["announced", "chunked"])
def test_a_body_without_end_is_refused(server, listener, how):
    """413, readable although the client has not finished sending; nothing is journalled."""
    with raw(listener.port) as client:
        if how == "announced":
            client.send(
                request("POST", "/v1/messages", b"", f"Content-Length: {BODY_LIMIT + 1}", "Expect: 100-continue")
            )
        else:
            size = BODY_LIMIT + 1
            client.send(
                request("POST", "/v1/messages", b"", "Transfer-Encoding: chunked"), b"%x\r\n" % size, bytes(size)
            )
        answer = client.reply()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        client.send(b"still going on")
        assert client.to_the_end() == b""
    assert invokes(server) == []


def test_a_refused_client_that_stays_is_cut_off(listener, monkeypatch):
    """A client that reads its refusal but never closes does not stay for ever."""
    monkeypatch.setattr("fake_server.transports.loopback.connection._REFUSED_LINGER_SECONDS", 0.0)
    with raw(listener.port) as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.reply().status == 400
        done = threading.Event()
        while listener.connections:
            done.wait(0.001)


def test_headers_without_end_are_refused(listener):
    """431 for a line that never ends."""
    with raw(listener.port) as client:
        client.send(b"GET /", b"x" * HEAD_LIMIT)
        assert client.reply().status == 431


def test_the_limit_is_for_one_request(listener):
    """A connection that has carried much is as good as new."""
    whole = request("GET", "/api/hello")
    count = HEAD_LIMIT // len(whole) + 1
    with raw(listener.port) as client:
        client.send(whole * count, whole[:20])
        assert [client.reply().status for _ in range(count)] == [200] * count
        meanwhile(listener)
        client.send(whole[20:])
        assert client.reply().status == 200


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ids=["tls", "header", "http2"],
)
def test_what_is_not_http_is_refused(server, listener, data):
    """400, and the connection ends."""
    with raw(listener.port) as client:
        client.send(data)
        assert client.reply().status == 400
        assert client.to_the_end() == b""
    assert invokes(server) == []


def test_a_good_request_before_a_bad_one_is_answered(listener):
    """What can be read is answered; what can't be read is refused in its turn."""
    with raw(listener.port) as client:
        client.send(request("GET", "/api/hello") + b"\x00\r\n\r\n")
        assert [client.reply().status, client.reply().status] == [200, 400]


# Where to, and who.


def test_connect_is_refused(server, listener):
    """No tunnel, to no host: nothing may slip out."""
    for target in ("platform.claude.com:443", "127.0.0.1:22"):
        with raw(listener.port) as client:
            client.send(request("CONNECT", target) + b"more")
            answer = client.reply()
            assert answer.status == 403
            assert target in answer.json["error"]["message"]
            assert client.to_the_end() == b""
    assert invokes(server) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/api/hello",
        "http://[::1]/api/hello?x",
        "https://API.anthropic.com/api/hello",
        "HTTP://mine/api/hello",
    ],
)
def test_an_absolute_target_is_answered_for_our_hosts(server, url):
    """A client that takes this for its proxy is answered for loopback, the known hosts and those that were added."""
    with SocketServer(server, hosts=["mine"]) as listener, raw(listener.port) as client:
        client.send(request("GET", url))
        assert client.reply().status == 200
    assert invokes(server)[0].get("path") == "/api/hello"


def test_an_absolute_target_without_a_path_is_the_root(server, listener):
    """``http://host`` asks for ``/``."""
    with raw(listener.port) as client:
        client.send(request("GET", "http://claude.ai"))
        assert client.reply().status == 404
    assert invokes(server)[0].get("path") == "/"


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://example.com/x", "example.com", 403),
        ("ftp://127.0.0.1/x", "127.0.0.1", 400),
        ("http:///x", "127.0.0.1", 400),
        ("http://[::1/x", "127.0.0.1", 400),
        ("/x", "127.0.0.1:port", 400),
    ],
)
def test_another_host_is_refused(server, listener, target, host, status):
    """Nothing is forwarded, and nothing answered in a stranger's name."""
    with raw(listener.port) as client:
        client.send(request("GET", target, host=host))
        assert client.reply().status == status
        assert client.to_the_end() == b""
    assert invokes(server) == []


def basic(user):
    return "Proxy-Authorization: Basic " + base64.b64encode(user.encode()).decode()


@pytest.mark.parametrize(
    ("target", "headers", "actor"),
    [
        ("/w/w0/api/hello", (basic("w1:x"), "X-Claude-Code-Session-Id: 363edb69-7dda"), "w0"),
        ("/api/hello", (basic("w%201:x"), "X-Claude-Code-Session-Id: 363edb69-7dda"), "w 1"),
        ("/api/hello", (basic(":x"), "X-Claude-Code-Session-Id: 363edb69-7dda"), "session-363edb69"),
        ("/api/hello", ("Proxy-Authorization: Basic ?",), "c1"),
        ("/api/hello", ("Proxy-Authorization: Basic /w==",), "c1"),
        ("/api/hello", ("Proxy-Authorization: Bearer x",), "c1"),
    ],
)
def test_a_request_is_attributed_by_the_strongest_sign(server, listener, target, headers, actor):
    """The address, then the proxy's user name, then the session, then the connection."""
    with raw(listener.port) as client:
        client.send(request("GET", target, b"", *headers))
        assert client.reply().status == 200
    assert invokes(server)[0].actor == actor


def test_requests_can_be_answered_by_a_local_handler(server):
    """An answer from beside the service is not journalled; all other requests go on."""

    def local_handler(asked):
        return Local(201, b"mine\n", "text/plain") if asked.path == "/mine" else None

    with SocketServer(server, local_handler=local_handler) as listener, raw(listener.port) as client:
        client.send(request("GET", "/mine"), request("GET", "/api/hello"))
        mine, hello = client.reply(), client.reply()
    assert (mine.status, mine.headers["content-type"], mine.body) == (201, "text/plain", b"mine\n")
    assert hello.status == 200
    assert len(invokes(server)) == 1


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
