"""What the loopback server turns away, and to whom it ascribes what it takes."""

from __future__ import annotations

import base64
import threading

import pytest

from fake_server.transports.loopback.http1 import BODY_LIMIT, HEAD_LIMIT
from fake_server.transports.sockets import Local, SocketServer
from tests.unit.transports.raw import (
    call,
    invokes,
    meanwhile,
    raw,
    request,
)


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
        ("ftp://127.0.0.1/x", "127.0.0.1", 403),
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
