"""Clients that ask for more than they read: answers wait for their reader, and nobody else waits for him."""

from __future__ import annotations

import threading

import pytest

from fake_server.core.hold import Hold
from fake_server.transports.sockets import Local, SocketServer
from tests.unit.transports.raw import PATIENCE, call, meanwhile, raw, request

MANY = 500
LONG = b"x" * 65536
MOST_UNREAD_BYTES = 1024 * 1024


def the_only(listener):
    """The connection to the listener."""
    (connection,) = listener.connections
    return connection


def until(listener, reached):
    """Come back when that is so."""
    while not reached():
        meanwhile(listener)


def settled(listener, count):
    """Come back when the client takes no more, and nothing more is made for it; returns how often that was done."""
    before = -1
    while before != (before := count()):
        for _ in range(20):
            meanwhile(listener)
    return before


class Asked:
    """A local handler that counts: each answer is whole, or comes in pieces."""

    def __init__(self, *, pieces):
        self.count = 0
        self.pieces = pieces

    def __call__(self, asked):
        if asked.path == "/api/hello":
            return None
        self.count += 1
        return Local(200, self.made() if self.pieces else LONG)

    def made(self):
        yield from (LONG[at : at + 4096] for at in range(0, len(LONG), 4096))


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
def test_answers_wait_for_their_reader(server, pieces):
    """Most are not even made, what is made is little, others are served; all come once they are read, in order."""
    asked = Asked(pieces=pieces)
    with SocketServer(server, local_handler=asked) as listener, raw(listener.port) as slow:
        slow.send(request("GET", "/long") * MANY, request("GET", "/api/hello"))
        until(listener, lambda: listener.connections and the_only(listener)._unread)
        assert settled(listener, lambda: asked.count) < MANY
        assert the_only(listener).transport.get_write_buffer_size() < MOST_UNREAD_BYTES
        with raw(listener.port) as other:
            other.send(request("GET", "/api/hello"))
            assert other.reply().status == 200
        assert asked.count < MANY
        assert [slow.reply().body for _ in range(MANY)] == [LONG] * MANY
        assert slow.reply().json == {"message": "hello"}


def test_a_long_answer_is_made_as_it_is_read(server):
    """However long it is, little of it is in memory."""
    made = []

    def pieces():
        for number in range(4000):
            made.append(number)
            yield LONG

    with SocketServer(server, local_handler=lambda asked: Local(200, pieces())) as listener:
        with raw(listener.port) as slow:
            slow.send(request("GET", "/long"))
            until(listener, lambda: listener.connections and the_only(listener)._unread)
            assert settled(listener, lambda: len(made)) < 4000
            assert the_only(listener).transport.get_write_buffer_size() < MOST_UNREAD_BYTES


def test_who_never_reads_does_not_keep_a_service_from_its_end(server):
    """It is cut off when the grace is over."""
    with SocketServer(server, local_handler=Asked(pieces=True)) as listener, raw(listener.port) as slow:
        slow.send(request("GET", "/long") * MANY)
        until(listener, lambda: listener.connections and the_only(listener)._unread)
        listener.stop(0.01)
        assert listener.connections == set()


def test_who_reads_late_gets_the_whole_of_a_reply(server):
    """What was written when the service ends is sent before it does, if its reader takes it in time."""
    with SocketServer(server, local_handler=Asked(pieces=False)) as listener, raw(listener.port) as slow:
        slow.send(request("GET", "/long") * MANY)
        until(listener, lambda: listener.connections and the_only(listener)._unread)
        end = threading.Thread(target=listener.stop, args=(PATIENCE,))
        end.start()
        replies = slow.to_the_end()
        end.join()
    assert len(replies) % (len(LONG) + replies.index(LONG)) == 0


def test_the_loop_turns_between_two_answers(server):
    """A stranger that comes while the first of many requests is answered does not wait for the last one."""
    order = []

    def local_handler(asked):
        order.append(asked.path)
        if len(order) == 1:
            stranger.send(request("GET", "/stranger"))
        return Local(200, b"{}")

    with SocketServer(server, local_handler=local_handler) as listener:
        with raw(listener.port) as greedy, raw(listener.port) as stranger:
            until(listener, lambda: len(listener.connections) == 2)
            greedy.send(request("GET", "/greedy") * MANY)
            assert stranger.reply().status == 200
            assert [greedy.reply().status for _ in range(MANY)] == [200] * MANY
    assert order.index("/stranger") < MANY


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
def test_a_client_that_has_shut_down_its_sending_side_gets_all(server, pieces):
    """As netcat does, once its input is at its end."""
    with SocketServer(server, local_handler=Asked(pieces=pieces)) as listener, raw(listener.port) as client:
        client.send(request("GET", "/long") * 100)
        client.half_close()
        assert [client.reply().body for _ in range(100)] == [LONG] * 100
        assert client.to_the_end() == b""


def test_large_requests_wait_outside(server, listener):
    """Behind a request that is held, only so much is read; it is served in its turn."""
    token = server.login("a").access[0].secret
    server.holds.append(hold := Hold("call", 2))
    with raw(listener.port) as client:
        client.send(call(token), call(token, text="x" * (1024 * 1024 + 1)))
        until(listener, lambda: listener.connections and not the_only(listener).transport.is_reading())
        with server.lock:
            hold.release()
        client.send(request("GET", "/api/hello"))
        assert [client.reply().status for _ in range(3)] == [200] * 3
