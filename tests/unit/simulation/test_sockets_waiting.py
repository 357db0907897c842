"""How clients that block wait: time-outs in simulated time, faults, streams, kept connections, and looks at them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.request
from contextlib import closing

import pytest

from fake_server.faults import Fault
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from pytest_claude_tokens.violations import BlindReplay
from tests.unit.simulation.blocking import CLIENTS
from tests.unit.simulation.worlds import ends, outcome_of, tried
from tests.zoo.common import CALL_URL, HELLO_URL, STREAMED, TOKEN_URL, bearer_header, token_request

pytestmark = pytest.mark.usefixtures("staged")

HOST = "api.anthropic.com"
HELLO = b"GET /api/hello HTTP/1.1\r\nhost: api.anthropic.com\r\n\r\n"
A_MINUTE = 60.0


@pytest.fixture(params=CLIENTS)
def ask(request):
    """Each client, by the name of what it must be able to import."""
    pytest.importorskip(request.param, reason=f"needs {request.param}")
    return CLIENTS[request.param]


def alone(job, schedule=None, **settings):
    """The outcome of a body with one worker, which is given the handle."""
    return tried(
        lambda claude_tokens, workers: workers(lambda: job(claude_tokens)), schedule or Schedule(), 1, **settings
    )


# Time-outs.


def test_a_reply_that_never_comes_runs_into_the_clients_time_out(ask):
    """In simulated time, to the second."""

    def job(tokens):
        tokens.fail_next("token", Fault.TIMEOUT)
        begun = time.monotonic()
        with pytest.raises(Exception, match=r"(?i)timed out"):
            ask("POST", TOKEN_URL, token_request(tokens.account().refresh_token), timeout=5)
        assert time.monotonic() - begun == pytest.approx(5)

    (end,) = ends(alone(job))
    assert (end.type, end.error, end.actor) == ("info", "timeout", "w0")


def test_a_client_without_a_time_out_is_cut_off():
    """After as long as one on httpx is, so that no run goes on for ever."""

    def job(tokens):
        tokens.fail_next("token", Fault.TIMEOUT)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            CLIENTS["http.client"]("POST", TOKEN_URL, token_request(tokens.account().refresh_token))
        assert time.monotonic() - begun == pytest.approx(A_MINUTE)

    assert [event.error for event in ends(alone(job))] == ["timeout"]


@pytest.mark.parametrize(("seconds", "ends_well"), [(4, True), (6, False)])
def test_what_the_test_asks_for_may_take_too_long(ask, seconds, ends_well):
    """The service's latency is the test's own wish."""

    def job(tokens):
        try:
            assert ask("GET", HELLO_URL, timeout=5)[0] == 200
        except Exception as error:
            return str(error)
        return ""

    def body(claude_tokens, workers):
        (said,) = workers(lambda: job(claude_tokens))
        assert ("timed out" in said.lower()) != ends_well, said

    tried(body, workers=1, latency={"other": seconds})


def test_no_time_out_fires_by_the_searchs_own_delays(ask):
    """Neither a slow leg nor a worker that is held up makes a client give up."""
    slow = Schedule(deviations=(Deviation(0, "slow", 0, 60_000), Deviation(1, "slow", 0, 60_000)))

    def job(tokens):
        assert ask("GET", HELLO_URL, timeout=0.5)[0] == 200
        assert time.monotonic() > 0

    assert [event.type for event in ends(alone(job, slow))] == ["ok"]


# Faults.


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.GARBAGE, Fault.TRUNCATED, Fault.LOST_REPLY], ids=str)
def test_faults_of_the_connection(ask, fault):
    """Each is an error of the client's, and an unknown outcome."""

    def job(tokens):
        tokens.fail_next("token", fault)
        account = tokens.account()
        try:
            status, reply = ask("POST", TOKEN_URL, token_request(account.refresh_token), timeout=5)
        except Exception as error:  # of each library's own
            return type(error)
        # httplib2 asks once more where nothing came, and a client by hand may not notice.
        raise AssertionError(f"{status} {reply}")

    def body(claude_tokens, workers):
        (found,) = workers(lambda: job(claude_tokens))
        assert issubclass(found, Exception)

    outcome = outcome_of(body, workers=1)
    assert ends(outcome)[0].type == "info"
    if ask is CLIENTS["httplib2"] and fault is Fault.LOST_REPLY:
        assert isinstance(outcome.error, BlindReplay)  # it asks again on its own, and is caught at that


def test_a_refusal_is_read_before_the_end():
    """What is not HTTP is answered 400, and the connection ends."""

    def job(tokens):
        with closing(socket.create_connection((HOST, 80))) as sock:
            sock.sendall(b"this is not HTTP\r\n\r\n")
            data = sock.recv(1000)
            assert data.startswith(b"HTTP/1.1 400 ")
            assert sock.recv(1000) == b""
            sock.send(b"more")  # is not read

    alone(job)


# Streams and kept connections.


def streaming(read):
    """A body whose one worker reads a stream by ``read(reply, sock)``."""

    def job(tokens):
        bearer = bearer_header(tokens.account().access_token)
        with closing(http.client.HTTPSConnection(HOST)) as connection:
            connection.request("POST", "/v1/messages", json.dumps(STREAMED), bearer)
            read(connection.getresponse(), tokens)

    return job


def test_a_stream_is_open_until_its_end_was_read():
    """Each piece is a step."""

    def read(reply, tokens):
        assert reply.headers["transfer-encoding"] == "chunked"
        assert reply.readline().startswith(b"event:")
        assert tokens.server.open
        reply.read()
        assert not tokens.server.open

    assert [event.type for event in ends(alone(streaming(read)))] == ["ok"]


def test_a_stream_that_is_dropped_has_an_unknown_end():
    """The client closes in the middle of it."""

    def read(reply, tokens):
        reply.read(10)
        reply.close()

    assert [(event.type, event.error) for event in ends(alone(streaming(read)))] == [("info", "client gone")]


def test_a_reply_that_nobody_keeps_is_given_up():
    """Its socket is freed with it."""

    def job(tokens):
        tokens.fail_next("call", Fault.TIMEOUT)
        asked = urllib.request.Request(CALL_URL, b"{}", bearer_header(tokens.account().access_token))
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(asked, timeout=1)

    assert [event.type for event in ends(alone(job))] == ["info"]


def test_one_connection_for_several_requests_and_threads():
    """It is kept, and each request is of the thread that sent it."""
    requests = pytest.importorskip("requests", reason="needs requests")

    def body(claude_tokens, workers):
        session, lock = requests.Session(), threading.Lock()
        with session:

            def job():
                with lock:
                    assert session.get(HELLO_URL).status_code == 200

            workers(job, per_worker=2)
            pools = session.get_adapter(HELLO_URL).poolmanager.pools
            assert [pools[key].num_connections for key in pools.keys()] == [1]  # noqa: SIM118 - it is no mapping

    assert sorted(event.actor for event in ends(tried(body))) == ["w0", "w0", "w1", "w1"]


def test_continue_and_a_client_that_sends_no_more():
    """``Expect: 100-continue`` is answered, and a client that shuts down its sending side still reads."""

    def job(tokens):
        with closing(socket.create_connection((HOST, 80))) as sock:
            sock.sendall(b"GET /api/hello HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
            sock.sendall(b"{}")
            sock.shutdown(socket.SHUT_WR)
            with pytest.raises(BrokenPipeError):
                sock.send(b"more")
            assert sock.recv(15, socket.MSG_PEEK) == b"HTTP/1.1 404 No"[:15] or sock.recv(1)
            while sock.recv(1000):
                pass

    alone(job)


def test_a_client_that_shuts_both_sides_down_has_gone():
    """At once, and not only when it closes."""

    def job(tokens):
        with closing(socket.create_connection((HOST, 80))) as sock:
            sock.sendall(HELLO)
            sock.shutdown(socket.SHUT_RD)
            sock.shutdown(socket.SHUT_RDWR)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(10) == b""

    assert [event.error for event in ends(alone(job))] == ["client gone"]
