"""In-process: beside a forward proxy, which gets what it would have got, but for the service's own requests."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
import respx
from respx.mocks import Mocker
from respx.models import AllMockedAssertionError

from tests.unit.transports.inprocess_world import HELLO, LIBRARIES, MODES, World, ask

each_client = pytest.mark.parametrize(
    ("library", "mode"), [(library, mode) for library in LIBRARIES for mode in MODES], ids=str
)

OTHER = "http://other.test/path?query"
LEVELS = {"httpx": "httpcore", "httpx2": "httpcore2"}


class Proxy:
    """A forward proxy on loopback that answers 202 itself, refuses every tunnel, and notes what it was asked."""

    def __init__(self):
        self.asked = []
        noted = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                noted.append((self.command, self.path, body))
                self.send_response(202)
                self.end_headers()

            def do_GET(self):
                self.do_POST()

            def do_CONNECT(self):
                noted.append((self.command, self.path, b""))
                self.send_response(403, "No tunnels")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.client = {"proxy": f"http://127.0.0.1:{self.server.server_port}"}


@pytest.fixture
def proxy():
    proxy = Proxy()
    thread = Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield proxy
    proxy.server.shutdown()
    thread.join()
    proxy.server.server_close()


@pytest.fixture
def world():
    return World()


@each_client
def test_another_host_is_reached_through_the_proxy(library, mode, proxy, world):
    """The proxy gets the whole address and the body, and its answer is the client's."""
    with world.interceptor:
        assert ask(library, mode, "GET", OTHER, client=proxy.client).status_code == 202
        assert ask(library, mode, "POST", OTHER, client=proxy.client, content=b"body").status_code == 202
    assert proxy.asked == [("GET", OTHER, b""), ("POST", OTHER, b"body")]
    assert world.events() == []


@each_client
def test_a_tunnel_is_asked_of_the_proxy(library, mode, proxy, world):
    """https asks the proxy for a tunnel to the other host; that it refuses is told as ever."""
    with world.interceptor, pytest.raises(library.ProxyError, match="403 No tunnels"):
        ask(library, mode, "GET", "https://other.test/", client=proxy.client)
    assert proxy.asked == [("CONNECT", "other.test:443", b"")]


@each_client
def test_the_proxy_of_the_environment_is_used(library, mode, proxy, world, monkeypatch):
    """A client that was told of no proxy finds that of the environment, as without us."""
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy.client["proxy"])
    with world.interceptor:
        assert ask(library, mode, "GET", OTHER).status_code == 202
    assert proxy.asked == [("GET", OTHER, b"")]


@each_client
@pytest.mark.parametrize("url", [HELLO, HELLO.replace("https:", "http:")])
def test_the_service_answers_in_process_in_spite_of_a_proxy(library, mode, url, proxy, world):
    """A request to a host of the service never gets as far as the proxy."""
    with world.interceptor:
        assert ask(library, mode, "GET", url, client=proxy.client).json() == {"message": "hello"}
    assert proxy.asked == []


@each_client
def test_without_a_service_its_hosts_are_asked_of_the_proxy(library, mode, proxy, world):
    """Where nobody answers in process, those hosts are like any other."""
    world.target = None
    with world.interceptor, pytest.raises(library.ProxyError, match="403"):
        ask(library, mode, "GET", HELLO, client=proxy.client)
    assert proxy.asked == [("CONNECT", "api.anthropic.com:443", b"")]


@each_client
def test_the_users_routes_decide_before_the_proxy(library, mode, proxy, world):
    """A route answers, a pass-through route leaves the request to the proxy, and the rest is refused."""
    router = respx.mock(using=LEVELS[library.__name__])
    router.get("http://mine.test/").respond(201)
    router.get(OTHER).pass_through()
    with router, world.interceptor:
        assert ask(library, mode, "GET", "http://mine.test/", client=proxy.client).status_code == 201
        assert ask(library, mode, "GET", OTHER, client=proxy.client).status_code == 202
        with pytest.raises(AllMockedAssertionError, match="not mocked"):
            ask(library, mode, "GET", "http://unknown.test/", client=proxy.client)
    assert proxy.asked == [("GET", OTHER, b"")]


def test_respx_reads_requests_as_before_once_we_are_gone(world):
    """What is replaced in respx is put back, for each library, also where one inherits it from the other."""
    import pytest_httpx2  # noqa: F401 - it defines the second one

    before = {name: vars(Mocker.registry[name]).get("to_httpx_request") for name in LEVELS.values()}
    with world.interceptor, world.interceptor:
        assert ask(httpx, "sync", "GET", HELLO).status_code == 200
        assert all(vars(Mocker.registry[name])["to_httpx_request"] is not was for name, was in before.items())
    assert {name: vars(Mocker.registry[name]).get("to_httpx_request") for name in before} == before
