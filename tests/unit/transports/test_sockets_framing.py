"""How requests and replies are framed over loopback sockets: lengths, chunks, interim replies, the end."""

from __future__ import annotations

import socket

import pytest

from tests.unit.transports.raw import (
    call,
    invokes,
    meanwhile,
    raw,
    request,
    token_body,
    token_request,
)


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
