"""Sockets in memory are sockets: ``select`` and its kin, what does not wait, and each method."""

from __future__ import annotations

import http.client
import io
import json
import os
import select
import selectors
import socket
import ssl
import time
from contextlib import closing, suppress
from math import inf, nan

import pytest

from fake_server.faults import Fault
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from pytest_claude_tokens.simulation.sockets.wire import WIRES
from tests.unit.simulation.worlds import ends, explored, outcome_of, tried
from tests.zoo.common import MESSAGE, bearer_header

pytestmark = pytest.mark.usefixtures("staged")

HOST = "api.anthropic.com"
HELLO = b"GET /api/hello HTTP/1.1\r\nhost: api.anthropic.com\r\n\r\n"
SLOW = Schedule(deviations=(Deviation(0, "slow", 0, 2_000),))
"""The first leg takes two seconds."""


def alone(job, schedule=None, **settings):
    """The outcome of a body with one worker, which is given a connected socket."""

    def work():
        with closing(socket.create_connection((HOST, 80))) as sock:
            job(sock)

    return tried(lambda claude_tokens, workers: workers(work), schedule or Schedule(), 1, **settings)


# Select and its kin.


def by_select(sock, timeout):
    """Whether there is something to read."""
    return select.select([sock], [], [], timeout)[0] == [sock]


def by_poll(sock, timeout):
    """As above."""
    poll = select.poll()
    poll.register(sock)
    poll.modify(sock.fileno(), select.POLLIN)
    found = poll.poll(None if timeout is None else timeout * 1000)
    poll.unregister(sock)
    return found == [(sock.fileno(), select.POLLIN)]


def by_selector(cls):
    """As above."""

    def look(sock, timeout):
        with cls() as selector:
            key = selector.register(sock, selectors.EVENT_READ)
            return selector.select(timeout) == [(key, selectors.EVENT_READ)]

    return look


LOOKS = {
    "select": by_select,
    "poll": by_poll,
    **{cls.__name__: by_selector(cls) for cls in (selectors.SelectSelector, selectors.PollSelector)},
    "DefaultSelector": by_selector(selectors.DefaultSelector),
}


def test_nobody_looks_until_a_time_that_is_no_number():
    """As outside of a search: it was never over."""

    def job(sock):
        for look in LOOKS.values():
            with pytest.raises(ValueError, match="NaN"):
                look(sock, nan)
            with pytest.raises(OverflowError):
                look(sock, inf)

    alone(job)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_look_waits_in_simulated_time(look):
    """For as long as it is told to, or until something comes."""

    def job(sock):
        assert not look(sock, 0)
        assert time.monotonic() == 0
        assert not look(sock, 3)
        assert time.monotonic() == pytest.approx(3)
        sock.sendall(HELLO)
        assert not look(sock, 0.5)
        assert time.monotonic() == pytest.approx(3.5)
        assert look(sock, None)
        assert time.monotonic() == pytest.approx(5)
        assert look(sock, 0)
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert not look(sock, 0)

    alone(job, SLOW)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_who_looks_again_and_again_gets_its_reply(look):
    """Without a time-out: that others can go on, and that time passes."""

    def job(sock):
        sock.sendall(HELLO)
        while not look(sock, 0):
            pass
        assert sock.recv(4096)

    alone(job, SLOW)


def test_a_socket_can_be_written_to_at_once():
    """Whatever is asked of it beside."""

    def job(sock):
        assert select.select([sock], [sock], [sock], None) == ([], [sock], [])
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        assert poll.poll() == [(sock.fileno(), select.POLLOUT)]
        with selectors.DefaultSelector() as selector:
            key = selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            assert selector.select() == [(key, selectors.EVENT_WRITE)]
        assert not select.select([], [], [sock], 1)[2]

    alone(job)


def test_sockets_of_both_kinds_in_one_look():
    """One of the operating system's beside one in memory: whichever has something."""
    near, far = socket.socketpair()

    def job(sock):
        assert select.select([sock, near], [], [], 0.05)[0] == []
        assert select.select([sock, near], [far], [])[1] == [far]
        far.send(b"x")
        assert select.select([sock, near], [], [])[0] == [near]
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(near, select.POLLIN)
        assert poll.poll() == [(near.fileno(), select.POLLIN)]
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            key = selector.register(near, selectors.EVENT_READ)
            assert selector.select(1) == [(key, selectors.EVENT_READ)]
        near.recv(1)
        sock.sendall(HELLO)
        assert select.select([sock, near], [], [])[0] == [sock]

    with near, far:
        alone(job)


def test_two_requests_are_waited_for_at_once():
    """The second may be answered first."""

    def job(sock):
        with closing(socket.create_connection((HOST, 80))) as other:
            sock.sendall(HELLO)
            other.sendall(HELLO)
            assert select.select([sock, other], [], [])[0] == [other]
            assert select.select([sock], [], [])[0] == [sock]

    alone(job, SLOW)


def test_a_reset_shows_as_an_error():
    """In ``poll``, too."""

    def body(claude_tokens, workers):
        claude_tokens.fail_next("call", Fault.RESET)
        bearer = bearer_header(claude_tokens.account().access_token)

        def job():
            with closing(http.client.HTTPConnection(HOST)) as connection:
                connection.request("POST", "/v1/messages", "{}", bearer)
                poll = select.poll()
                poll.register(connection.sock, select.POLLIN)
                ((_, mask),) = poll.poll()
                assert mask & select.POLLERR
                with pytest.raises(ConnectionResetError):
                    connection.sock.recv(1)
                with pytest.raises(ConnectionResetError):
                    connection.sock.send(b"x")

        workers(job)

    tried(body, workers=1)


# What does not wait, and who gives up.


def test_a_socket_that_does_not_block():
    """``BlockingIOError``, until something is there; over TLS ``SSLWantReadError``."""

    def job(sock):
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        sock.sendall(HELLO)
        while True:
            with suppress(BlockingIOError):
                assert sock.recv(4096)
                break
        sock.settimeout(1)
        with pytest.raises(BlockingIOError):
            sock.recv(1, socket.MSG_DONTWAIT)
        secure = ssl.create_default_context().wrap_socket(socket.create_connection((HOST, 443)), server_hostname=HOST)
        with closing(secure):
            secure.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                secure.recv(1)
            secure.settimeout(0.5)
            with pytest.raises(TimeoutError, match="The read operation timed out"):
                secure.recv(1)

    alone(job)


def test_a_request_goes_on_when_its_client_has_given_up():
    """One that gives up and does not close leaves its call to the service, which ends it while others wait."""

    def body(claude_tokens, workers):
        bearer = bearer_header(claude_tokens.account().access_token)
        left = []

        def first():
            connection = http.client.HTTPSConnection(HOST, timeout=1)
            left.append(connection)
            connection.request("POST", "/v1/messages", json.dumps(MESSAGE), bearer)
            with pytest.raises(TimeoutError):
                connection.getresponse()

        def second():
            time.sleep(2)
            with closing(http.client.HTTPSConnection(HOST)) as connection:
                connection.request("POST", "/v1/messages", json.dumps(MESSAGE), bearer)
                assert connection.getresponse().status == 200
            assert time.monotonic() == pytest.approx(10)  # five seconds each, one after the other
            assert left[0].sock.recv(4096)  # the reply that came too late
            left[0].close()

        workers(first, second)

    outcome = outcome_of(body, latency={"call": 5}, allow=["co-schedule"])
    assert outcome.error is None
    assert [(event.actor, event.type) for event in ends(outcome)] == [("w0", "ok"), ("w1", "ok")]


def test_two_hang_and_nobody_sets_a_time_out():
    """Both are cut off, as one alone is."""

    def body(claude_tokens, workers):
        claude_tokens.fail_next("call", Fault.TIMEOUT, count=2)
        bearer = bearer_header(claude_tokens.account().access_token)

        def job():
            with closing(http.client.HTTPConnection(HOST)) as one, closing(http.client.HTTPConnection(HOST)) as other:
                for connection in (one, other):
                    connection.request("POST", "/v1/messages", "{}", bearer)
                with closing(socket.create_connection((HOST, 80))) as idle:
                    found = select.select([one.sock, idle, other.sock], [], [])[0]
                assert found == [one.sock, other.sock]
                with pytest.raises(TimeoutError):
                    one.sock.recv(1)

        workers(job)

    tried(body, workers=1, allow=["co-schedule"])


def test_two_threads_that_read_one_connection():
    """Each gets what it takes first."""

    def body(claude_tokens, workers):
        with closing(socket.create_connection((HOST, 80))) as sock:
            sock.sendall(HELLO)
            assert sorted(map(len, workers(lambda: sock.recv(1)))) == [1, 1]

    tried(body)


def test_who_has_given_up_may_read_again():
    """The reply comes in its own time."""

    def job(sock):
        sock.settimeout(1)
        sock.sendall(HELLO)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(None)
        assert sock.recv(4) == b"HTTP"
        assert time.monotonic() == pytest.approx(3)

    alone(job, latency={"other": 3})


def test_a_request_in_absolute_form():
    """As one sends it to a proxy: the host must be ours."""

    def job(sock):
        sock.sendall(HELLO.replace(b"GET ", b"GET http://api.anthropic.com"))
        assert sock.recv(12) == b"HTTP/1.1 200"

    alone(job)


def test_a_connection_in_use_is_lost_with_its_run():
    """One that is idle is not. Between two runs nothing is sent."""
    kept = []

    def body(claude_tokens, workers):
        if kept:
            assert kept[0].recv(10) == b""
            with pytest.raises(BrokenPipeError):
                kept[0].send(HELLO)
            kept[1].sendall(HELLO)
            assert kept[1].recv(4) == b"HTTP"
            return
        kept.extend(socket.create_connection((HOST, 80)) for _ in range(3))
        kept[0].sendall(HELLO)

    with explored(body) as run:
        assert run(Schedule()).error is None
        assert kept[2].send(HELLO) == len(HELLO)
        assert kept[2].recv(1) == b""
        kept[2].shutdown(socket.SHUT_RDWR)
        assert run(Schedule()).error is None
    for sock in kept:
        sock.close()


# Each method.


def test_each_way_to_send_and_to_read():
    """All of them do what they do on a connected socket."""

    def job(sock):
        assert sock.sendto(HELLO[:4], (HOST, 80)) == 4
        assert sock.sendmsg([HELLO[4:6], HELLO[6:9]]) == 5
        file = io.BytesIO(HELLO)
        assert sock.sendfile(file, 9, 3) == 3
        sock.sendfile(file, 12)
        assert sock.recvfrom(4) == (b"HTTP", None)
        assert sock.recvmsg(1) == (b"/", [], 0, None)
        buffer = bytearray(4)
        assert sock.recv_into(buffer, 2, socket.MSG_PEEK) == 2
        assert buffer[:2] == b"1."
        assert sock.recvfrom_into(buffer) == (4, None)
        assert buffer == b"1.1 "
        assert sock.recv(0) == b""
        assert sock.recv(3, socket.MSG_WAITALL) == b"200"
        with sock.makefile("rb") as reader:
            reader.readline()
        assert sock.getpeername()[1] == 80
        assert sock.getsockname()[0].startswith("192.0.2.")

    alone(job)


def test_wait_for_all_of_it():
    """A read for more than has come goes on until the end."""

    def job(sock):
        sock.sendall(HELLO.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        data = sock.recv(100_000, socket.MSG_WAITALL)
        assert data.startswith(b"HTTP/1.1 200 ")
        assert sock.recv(10, socket.MSG_WAITALL) == b""

    alone(job)


def test_a_socket_that_is_made_of_another_ones_number():
    """``detach`` leaves the connection to it."""

    def job(sock):
        number = sock.detach()
        assert number in WIRES
        with socket.socket(fileno=number) as again:
            again.sendall(HELLO)
            assert again.recv(4) == b"HTTP"
        assert number not in WIRES

    alone(job)


def test_every_method_leaves_other_sockets_alone():
    """Also those that hardly anybody calls."""
    near, far = socket.socketpair()

    def job(sock):
        del sock
        assert near.sendmsg([b"ab", b"c"]) == 3
        assert far.recvfrom(1)[0] == b"a"
        assert far.recvmsg(1)[0] == b"b"
        assert far.recvfrom_into(bytearray(1))[0] == 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect(("127.0.0.1", 9))
            assert datagrams.connect_ex(("127.0.0.1", 9)) == 0
            assert datagrams.sendto(b"x", ("127.0.0.1", 9)) == 1
        with socket.socket(socket.AF_UNIX) as local, pytest.raises(FileNotFoundError):
            local.connect("/nowhere")
        with open(__file__, "rb") as file:
            assert near.sendfile(file, 0, 10) == 10
        os.close(near.detach())

    with near, far:
        alone(job)
