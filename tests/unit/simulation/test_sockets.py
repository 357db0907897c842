"""Threads whose clients block: unpatched, on the real hosts' names, scheduled and judged as those on httpx are."""

from __future__ import annotations

import errno
import select
import selectors
import socket
import threading
from contextlib import nullcontext

import pytest

from pytest_claude_tokens.guard.refusal import RealServiceRefused
from pytest_claude_tokens.simulation.schedule import Schedule
from pytest_claude_tokens.violations import CoSchedule, DoubleSpend, StaleBearer
from tests.unit.simulation.blocking import CLIENTS
from tests.unit.simulation.worlds import ends, explored, outcome_of, tried
from tests.zoo.common import CALL_URL, HELLO_URL, MESSAGE, PROFILE_URL, TOKEN_URL, bearer_header, token_request

pytestmark = pytest.mark.usefixtures("staged")


@pytest.fixture(params=CLIENTS)
def ask(request):
    """Each client, by the name of what it must be able to import."""
    pytest.importorskip(request.param, reason=f"needs {request.param}")
    return CLIENTS[request.param]


def refreshing(ask, *, locked):
    """A body whose workers refresh."""

    def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        login = {"refresh": account.refresh_token, "fresh": False}
        lock = threading.Lock()

        def refresh():
            status, reply = ask("POST", TOKEN_URL, token_request(login["refresh"]))
            if status == 200:
                login.update(refresh=reply["refresh_token"], fresh=True)

        def job():
            if not locked:
                refresh()
                return
            with lock:
                if not login["fresh"]:
                    refresh()

        workers(job)

    return body


def test_two_that_refresh_at_once_are_caught(ask):
    """And they are w0 and w1, whatever connections they came on."""
    outcome = outcome_of(refreshing(ask, locked=False))
    assert isinstance(outcome.error, DoubleSpend)
    assert [(event.actor, event.status) for event in ends(outcome)] == [("w0", 200), ("w1", 400)]
    assert outcome.raced


def test_two_behind_a_lock_are_spared(ask):
    """In any order."""
    with explored(refreshing(ask, locked=True), 3) as run:
        for seed in range(5):
            outcome = run(Schedule(kind="walk", seed=seed))
            assert outcome.error is None
            assert [(event.type, event.status) for event in ends(outcome)] == [("ok", 200)]


def test_one_session_of_two_threads_is_told_apart():
    """Each presents the ended bearer once, as it must to learn that it has ended; a third time is one too many."""
    requests = pytest.importorskip("requests", reason="needs requests")

    def asking(times):
        def body(claude_tokens, workers):
            account, http = claude_tokens.account(expired=True), requests.Session()

            def job():
                for _ in range(times):
                    http.get(PROFILE_URL, headers=bearer_header(account.access_token))

            workers(job)

        return body

    with explored(asking(1)) as run:
        for seed in range(5):
            outcome = run(Schedule(kind="walk", seed=seed))
            assert outcome.error is None
            assert sorted(event.actor for event in ends(outcome)) == ["w0", "w1"]
    assert isinstance(outcome_of(asking(2)).error, StaleBearer)


def calling(ask, *, locked):
    """A body whose workers call on one bearer."""

    def body(claude_tokens, workers):
        account, lock = claude_tokens.account(), threading.Lock()

        def job():
            with lock if locked else nullcontext():
                status, _ = ask("POST", CALL_URL, MESSAGE, bearer_header(account.access_token))
                assert status == 200

        workers(job)

    return body


def test_two_calls_on_one_bearer(ask):
    """At once they are caught, one after the other they are spared."""
    assert isinstance(outcome_of(calling(ask, locked=False)).error, CoSchedule)
    tried(calling(ask, locked=True))


def test_a_thread_that_is_no_worker_has_its_own_name():
    """The body's, and one that it starts."""

    def body(claude_tokens, workers):
        CLIENTS["http.client"]("GET", HELLO_URL)
        helper = threading.Thread(target=CLIENTS["urllib"], args=("GET", HELLO_URL), name="helper")
        helper.start()
        helper.join()

    assert [event.actor for event in ends(tried(body))] == ["MainThread", "helper"]


# What is not ours.


def test_other_sockets_of_the_process_go_on_untouched():
    """A server of the test's own on loopback, and the select and poll that it is waited for with."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                peer, _ = server.accept()
                with peer:
                    data = peer.recv(100)
                    if not data:
                        return
                    peer.sendall(data.upper())

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()

        def job():
            with socket.create_connection(server.getsockname()) as sock:
                assert sock.getpeername() == server.getsockname()
                assert sock.getsockname()[0] == "127.0.0.1"
                sock.send(b"hello")
                assert select.select([sock], [], [])[0] == [sock]
                poll = select.poll()
                poll.register(sock, select.POLLIN)
                poll.modify(sock, select.POLLIN | select.POLLOUT)
                assert poll.poll(1000)[0][0] == sock.fileno()
                poll.unregister(sock)
                with selectors.DefaultSelector() as selector:
                    selector.register(sock, selectors.EVENT_READ)
                    assert [key.fileobj for key, _ in selector.select()] == [sock]
                assert sock.recv(2) == b"HE"
                buffer = bytearray(3)
                sock.recv_into(buffer)
                assert buffer == b"LLO"
                sock.shutdown(socket.SHUT_RDWR)
            assert socket.getaddrinfo("127.0.0.1", 80)
            assert socket.gethostbyname("127.0.0.1") == socket.gethostbyname_ex("127.0.0.1")[2][0] == "127.0.0.1"

        def body(claude_tokens, workers):
            workers(job)

        tried(body)
        with socket.create_connection(server.getsockname()):
            pass  # ends it
        serving.join()


def test_a_host_that_is_not_served_is_refused_by_the_guard():
    """As ever: the real service is not asked, and nothing in memory answers for it."""

    def body(claude_tokens, workers):
        with pytest.raises(RealServiceRefused):
            CLIENTS["http.client"]("GET", "https://statsig.anthropic.com/")
        address = socket.gethostbyname("api.anthropic.com")
        assert socket.gethostbyname_ex("api.anthropic.com") == ("api.anthropic.com", [], [address])
        assert socket.getaddrinfo(b"api.anthropic.com", b"https", flags=socket.AI_CANONNAME) == [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "api.anthropic.com", (address, 443))
        ]
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("api.anthropic.com", 443, socket.AF_INET6)

    tried(body)


def test_a_port_that_is_not_served_is_refused():
    """A host that is named with its port has no other."""

    def body(claude_tokens, workers):
        address = socket.getaddrinfo("mine.example.com", 8443)[0][4][0]
        with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.connect((address, 80))
        with socket.socket() as sock:
            assert sock.connect_ex((address, 80)) == errno.ECONNREFUSED
            assert sock.connect_ex((address, 8443)) == 0
            assert sock.getpeername() == (address, 8443)
            with pytest.raises(OSError, match="already connected"):
                sock.connect((address, 8443))

    tried(body, hosts=["mine.example.com:8443"])


# Each run has a connection of its own, or the one from the run before.


def test_a_session_that_outlives_its_run_goes_on():
    """Its kept connection leads to the service of the next run, where urllib3 takes it for alive."""
    requests = pytest.importorskip("requests", reason="needs requests")
    http = requests.Session()

    def body(claude_tokens, workers):
        workers(lambda: http.get(HELLO_URL))

    with http, explored(body) as run:
        for _ in range(2):
            assert [(event.actor, event.status) for event in ends(run(Schedule()))] == [("w0", 200), ("w1", 200)]
        pools = http.get_adapter(HELLO_URL).poolmanager.pools
        assert [pools[key].num_connections for key in pools.keys()] == [2]  # noqa: SIM118 - it is no mapping
        with pytest.raises(RealServiceRefused):  # between two runs they are closed, and nothing in memory answers
            http.get(HELLO_URL)
