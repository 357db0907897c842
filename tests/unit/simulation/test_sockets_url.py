"""``tokens.url`` in a search, jobs of an ``async def`` body that block, and what still goes over real sockets."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from fake_server.hosts import LISTENING_PORTS
from pytest_claude_tokens.simulation.schedule import Schedule
from pytest_claude_tokens.simulation.sockets.wire import WIRES
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.simulation.blocking import CLIENTS
from tests.unit.simulation.worlds import ends, explored, outcome_of, tried
from tests.zoo.common import TOKEN_URL, token_request

pytestmark = pytest.mark.usefixtures("staged")

REFRESH = "/v1/oauth/token"


@pytest.fixture(params=CLIENTS)
def ask(request):
    """Each client, by the name of what it must be able to import."""
    pytest.importorskip(request.param, reason=f"needs {request.param}")
    return CLIENTS[request.param]


# The service's own address.


def test_the_services_own_url_is_simulated_too(ask):
    """Over http: two that refresh at once are caught, as w0 and w1."""

    def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        workers(lambda: ask("POST", claude_tokens.url + REFRESH, token_request(account.refresh_token)))

    outcome = outcome_of(body)
    assert isinstance(outcome.error, DoubleSpend)
    assert [event.actor for event in ends(outcome)] == ["w0", "w1"]
    assert outcome.unscheduled == {}


def test_all_runs_of_a_search_have_one_address():
    """So it may be kept from one run to the next; afterwards nobody listens there."""
    urls = set()

    def body(claude_tokens, workers):
        urls.add(claude_tokens.url)
        workers(lambda: CLIENTS["http.client"]("GET", claude_tokens.url + "/api/hello"))

    before = set(LISTENING_PORTS)
    with explored(body) as run:
        for seed in range(3):
            assert [event.actor for event in ends(run(Schedule(kind="walk", seed=seed)))].count("w0") == 1
        assert len(LISTENING_PORTS - before) == 1
    assert len(urls) == 1
    assert before == LISTENING_PORTS


def test_another_port_of_loopback_is_not_ours():
    """It is connected for real: refused, where nobody listens."""

    def job():
        with socket.socket() as taken, socket.socket() as sock:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                sock.connect(taken.getsockname())

    tried(lambda claude_tokens, workers: workers(job))


# Jobs of a body that is asynchronous.


def in_a_thread(job):
    return asyncio.to_thread(job)


def in_a_pool(job):
    return asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(4), job)


def in_the_loop(job):
    """As it should not be done: nothing else can go on meanwhile."""

    async def run():
        return job()

    return run()


@pytest.mark.parametrize("where", [in_a_thread, in_a_pool, in_the_loop])
@pytest.mark.parametrize("sound", [True, False])
def test_jobs_that_block(where, sound):
    """Their requests are their worker's, and race as those of tasks do."""
    requests = pytest.importorskip("requests", reason="needs requests")

    async def body(claude_tokens, workers):
        account, lock, done = claude_tokens.account(expired=True), asyncio.Lock(), []

        def refresh():
            return requests.post(TOKEN_URL, json=token_request(account.refresh_token), timeout=10).status_code

        async def job():
            if not sound:
                await where(refresh)
                return
            async with lock:
                if not done:
                    done.append(await where(refresh))

        await workers(job)
        assert not sound or done == [200]

    outcome = outcome_of(body)
    if sound:
        assert outcome.error is None
        assert len(ends(outcome)) == 1
    else:
        assert isinstance(outcome.error, DoubleSpend)
        assert [event.actor for event in ends(outcome)] == ["w0", "w1"]


# What still goes over real sockets.


def test_requests_over_real_sockets_are_their_threads():
    """Of a client that nothing is known of but that it blocks, here below the patches; and they are counted."""

    def job(claude_tokens):
        raw = socket.SocketType()
        raw.connect(("127.0.0.1", int(claude_tokens.url.rpartition(":")[2])))
        raw.sendall(b"GET /api/hello HTTP/1.1\r\nhost: a\r\nuser-agent: PycURL/7.45 libcurl\r\nconnection: close\r\n\r\n")
        data = b""
        while piece := raw.recv(1000):
            data += piece
        raw.close()
        assert data.startswith(b"HTTP/1.1 200 ")

    def body(claude_tokens, workers):
        workers(lambda: job(claude_tokens))

    with explored(body) as run:
        for _ in range(2):
            outcome = run(Schedule())
            assert outcome.error is None
            assert [event.actor for event in ends(outcome)] == ["w0", "w1"]
            assert outcome.unscheduled == {"pycurl": 2}
    assert not WIRES
