"""``tokens.url`` in a search, jobs of an ``async def`` body that block, and what still goes over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from fake_server.hosts import LISTENING_PORTS
from fake_server.protocol.wire import Request
from pytest_claude_tokens.processes import procfs
from pytest_claude_tokens.runs.unscheduled import Unscheduled
from pytest_claude_tokens.search.context import Report
from pytest_claude_tokens.search.tally import Tally
from pytest_claude_tokens.simulation.native import REAL_START, native
from pytest_claude_tokens.simulation.schedule import Schedule
from pytest_claude_tokens.simulation.sockets.wire import WIRES
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.simulation.blocking import CLIENTS
from tests.unit.simulation.worlds import ends, explored, outcome_of, tried, world
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


@pytest.mark.parametrize("name", ["urllib", "requests"])
def test_the_services_proxy_is_simulated_too(name):
    """In ``environ()``: for clients that read the variables, over TLS in a tunnel; no other host is reached."""
    pytest.importorskip(name, reason=f"needs {name}")
    pytest.importorskip("trustme", reason="needs the extra `proxy`")

    def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        with claude_tokens.environ(account):
            workers(lambda: CLIENTS[name]("POST", TOKEN_URL, token_request(account.refresh_token)))
            with pytest.raises(Exception, match="403"):
                CLIENTS[name]("GET", "https://other.example.com/")

    outcome = outcome_of(body)
    assert isinstance(outcome.error, DoubleSpend)
    assert [event.actor for event in ends(outcome)] == ["w0", "w1"]
    assert outcome.unscheduled == {}


def test_no_tunnel_where_there_is_no_proxy():
    """Neither at the service's own port, nor to what is no host."""
    pytest.importorskip("trustme", reason="needs the extra `proxy`")

    def said(url, target):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sock:
            sock.sendall(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode())
            return sock.recv(12)

    def body(claude_tokens, workers):
        assert said(claude_tokens.url, "api.anthropic.com:443") == b"HTTP/1.1 403"
        assert said(claude_tokens.proxy_url, "api.anthropic.com:x") == b"HTTP/1.1 400"
        assert said(claude_tokens.proxy_url, "api.anthropic.com:443") == b"HTTP/1.1 200"

    tried(body)


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


def below(url, agent="PycURL/7.45 libcurl", path="/api/hello"):
    """Ask as a client in C does: below the patches. Returns the socket, after its reply."""
    raw = socket.SocketType()
    raw.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    raw.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nuser-agent: {agent}\r\n\r\n".encode())
    assert raw.recv(1000).startswith(b"HTTP/1.1 200 ")
    return raw


def test_requests_over_real_sockets_are_their_threads():
    """And they are counted, by what the client calls itself."""

    def body(claude_tokens, workers):
        url, lock = claude_tokens.url, threading.Lock()

        def job():
            with lock:
                below(url).close()

        workers(job)
        below(url, "", "/w/w7/api/hello").close()

    with explored(body) as run:
        for _ in range(2):
            outcome = run(Schedule())
            assert outcome.error is None
            assert [event.actor for event in ends(outcome)] == ["w0", "w1", "w7"]
            assert outcome.unscheduled == {"pycurl": 2, "an unnamed client": 1}
    assert not WIRES


def test_a_client_that_calls_itself_a_browser_is_told_by_its_package():
    """By the code that its thread is in."""
    source = "def ask(raw, data):\n raw.sendall(data)\n return raw.recv(1000)"
    code = compile(source, "/lib/site-packages/curl_cffi/curl.py", "exec")
    library: dict = {}
    exec(code, library)

    def job(url):
        raw = socket.SocketType()
        raw.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        assert library["ask"](raw, b"GET /api/hello HTTP/1.1\r\nhost: a\r\nuser-agent: Mozilla/5.0\r\n\r\n")
        raw.close()

    def body(claude_tokens, workers):
        workers(lambda: job(claude_tokens.url))

    assert tried(body, workers=1).unscheduled == {"curl_cffi": 1}


def test_a_thread_that_sleeps_in_its_own_call_is_the_sender():
    """Also while another has the turn; where nobody can be the sender, the connection has a name of its own."""
    with world() as new:
        namer = Unscheduled(new)
        asked = Request.parse("GET", "/api/hello", (), b"", None)

        def named():
            return namer(asked, "c1", ("127.0.0.1", 1), ("127.0.0.1", 2))

        new.root.inside = True
        assert named() == "c1"
        new.root.inside = False
        assert named() == "main"
        with open_call() as (sleeper, native):
            record = new.register("w3", 3)
            record.native = native
            record.queue()
            record.run()
            record.lose()
            assert named() == "w3"
            namer.server = SimpleNamespace(open={1: SimpleNamespace(actor="w3")})
            assert named() == "main"
            sleeper.set()
            record.end()


@contextmanager
def open_call():
    """A real thread that sleeps, and its number."""
    numbers, ready, sleeper = [], threading.Event(), threading.Event()

    def sleep():
        numbers.append(threading.get_native_id())
        ready.set()
        sleeper.wait()

    with native():
        thread = threading.Thread(target=sleep)
        REAL_START(thread)
    ready.wait()
    while procfs.read_stat("self", numbers[0]).state != "S":
        pass
    yield sleeper, numbers[0]
    thread.join()


def test_who_stays_connected_is_dropped_with_its_run():
    """And whoever connects between two runs, before the next one."""
    left = []

    def body(claude_tokens, workers):
        left.append(below(claude_tokens.url))

    with explored(body) as run:
        for _ in range(2):
            assert run(Schedule(), {}).error is None
            assert left[-1].recv(1) == b""
            left.append(below("http://127.0.0.1:{}".format(*LISTENING_PORTS)))
        assert run(Schedule()).error is None
    for sock in left:
        sock.close()


def test_trio_in_a_thread_keeps_its_own_sockets():
    """It goes to the service over real ones, as ever."""
    trio = pytest.importorskip("trio", reason="needs trio")

    def body(claude_tokens, workers):
        host, port = "127.0.0.1", int(claude_tokens.url.rpartition(":")[2])

        async def ask():
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all(b"GET /api/hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                return await stream.receive_some()

        assert workers(lambda: trio.run(ask))[0].startswith(b"HTTP/1.1 200 ")

    assert sum(tried(body).unscheduled.values()) == 2


def test_the_report_says_what_was_not_scheduled():
    """On a line of its own."""
    told = Report(schedules=3, histories=1, drawn=3, unscheduled={"pycurl": 12, "curl": 1}).text()
    first, second = told.splitlines()
    assert first == "3 schedules, 1 distinct history, next new 0%"
    assert second == "    not scheduled: 1 request of curl, 12 requests of pycurl"
    tally = Tally()
    for _ in range(2):
        tally.count(outcome_of(lambda claude_tokens, workers: below(claude_tokens.url).close()))
    assert tally.report().unscheduled == {"pycurl": 2}
