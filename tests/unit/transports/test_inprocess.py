"""In-process: whose requests are answered, by which service, on behalf of whom."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpcore
import httpcore2
import httpx
import httpx2
import pytest
from respx.mocks import Mocker

from fake_server.hosts import KNOWN_HOSTS
from fake_server.protocol.actors import WORKER
from fake_server.transports.inprocess import Interceptor, MissingExtra, libraries, routing
from tests.unit.transports.inprocess_world import CALL, HELLO, LIBRARIES, MODES, TOKEN, World, ask

both = pytest.mark.parametrize("library", LIBRARIES, ids=["httpx", "httpx2"])
either = pytest.mark.parametrize("mode", MODES)


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"network: " + self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def network():
    """The URL of a real server on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@both
@either
@pytest.mark.parametrize("host", KNOWN_HOSTS)
def test_each_host_of_the_service_is_answered(library, mode, host):
    """A token request to any of the service's hosts gets the service's reply, and is journalled with its host."""
    world = World()
    with world.interceptor:
        reply = ask(library, mode, "POST", f"https://{host}/v1/oauth/token", json=world.refresh)
    assert isinstance(reply, library.Response)
    assert reply.status_code == 200
    assert reply.json()["refresh_token"] == world.grant.refresh[1].secret
    invoke, ok = world.events()
    assert (invoke.type, invoke.get("host"), invoke.get("path"), ok.type) == ("invoke", host, "/v1/oauth/token", "ok")


@pytest.mark.parametrize("host", ["API.Anthropic.com", "api.anthropic.com.", "gateway.test", "api.anthropic.com:8443"])
def test_spellings_of_a_host_and_further_hosts_are_answered(host):
    """Case, a final dot and a port make no difference; hosts that were asked for are answered like the service's."""
    world = World(hosts=("Gateway.test.",))
    with world.interceptor:
        assert httpx.get(f"https://{host}/api/hello").status_code == 200


@both
@either
def test_the_reply_has_the_headers_of_a_connection(library, mode):
    """Content-Length is that of the body, and the service's own headers come through."""
    world = World()
    with world.interceptor:
        reply = ask(library, mode, "POST", CALL, **world.message("five"))
    assert reply.headers["content-length"] == str(len(reply.content))
    assert reply.headers["request-id"].startswith("req_")
    assert reply.headers["content-type"] == "application/json"
    assert (reply.http_version, reply.reason_phrase) == ("HTTP/1.1", "OK")
    assert reply.json()["content"][0]["text"] == "five"


@both
@either
def test_a_head_request_gets_headers_alone(library, mode):
    """HEAD has the headers of GET and no body."""
    world = World()
    with world.interceptor:
        head = ask(library, mode, "HEAD", HELLO)
        get = ask(library, mode, "GET", HELLO)
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    assert get.content


@both
@either
def test_queries_forms_and_uploads_arrive(library, mode):
    """The query is cut from the path, and a form or a body that is produced on the fly is read whole."""
    world = World()

    def produced():
        yield b'{"messages": [{"role": "user", '
        yield b'"content": "Reply: whole"}]}'

    async def produced_async():
        for part in produced():
            yield part

    content = produced() if mode == "sync" else produced_async()
    with world.interceptor:
        form = ask(library, mode, "POST", TOKEN + "?beta=true", data=world.refresh)
        call = ask(library, mode, "POST", CALL, content=content, headers=world.headers)
    assert form.status_code == 200
    assert world.events("invoke")[0].get("encoding") == "form"
    assert world.events("invoke")[0].get("path") == "/v1/oauth/token"
    assert call.json()["content"][0]["text"] == "whole"


@both
@either
@pytest.mark.parametrize("how", ["environment", "proxy", "mounts"])
def test_a_proxy_does_not_lead_past_the_service(library, mode, how, monkeypatch):
    """A client that would go through a proxy is answered in process all the same."""
    world, client = World(), {}
    if how == "environment":
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "")
    elif how == "proxy":
        client = {"proxy": "http://127.0.0.1:9"}
    else:
        kind = library.HTTPTransport if mode == "sync" else library.AsyncHTTPTransport
        client = {"mounts": {"https://": kind(retries=2)}}
    with world.interceptor:
        assert ask(library, mode, "GET", HELLO, client=client).status_code == 200


@both
@either
def test_a_transport_of_the_users_own_is_left_alone(library, mode):
    """A client with a mock transport gets what that transport answers."""
    world = World()
    mine = library.MockTransport(lambda request: library.Response(418))
    with world.interceptor:
        assert ask(library, mode, "GET", HELLO, client={"transport": mine}).status_code == 418
    assert world.events() == []


@both
def test_an_asgi_transport_is_left_alone(library):
    """A client that calls an application directly goes on doing so."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b"app"})

    with World().interceptor:
        reply = ask(library, "async", "GET", HELLO, client={"transport": library.ASGITransport(app)})
    assert (reply.status_code, reply.content) == (418, b"app")


@both
@either
def test_other_hosts_reach_the_network(library, mode, network):
    """A request to a host that is not the service's goes out as it would have gone, its body included."""
    world = World()
    with world.interceptor:
        assert ask(library, mode, "POST", network, content=b"hi").content == b"network: hi"
    assert world.events() == []


@both
@either
def test_without_a_service_a_request_goes_on(library, mode, network):
    """Where nobody says which service is to answer, the request is none of the interceptor's business."""
    world = World(hosts=("127.0.0.1",))
    with world.interceptor:
        assert ask(library, mode, "GET", f"{network}/api/hello").content != b"network: "
        world.target = None
        assert ask(library, mode, "GET", f"{network}/api/hello").content == b"network: "


def test_the_service_is_looked_up_for_each_request():
    """One interceptor serves a fresh service for each example, and even for each request of one client."""
    first, second = World(), World()
    current = first
    with Interceptor(lambda: current.target), httpx.Client() as client:
        client.get(HELLO)
        current = second
        client.get(HELLO)
        client.get(HELLO)
    assert (len(first.events("invoke")), len(second.events("invoke"))) == (1, 2)


def test_the_innermost_interceptor_is_asked_first():
    """Of two handles the inner one answers, and hands on what it has no service or no host name for."""
    outer, inner = World(hosts=("gateway.test",)), World()
    with outer.interceptor, inner.interceptor:
        httpx.get(HELLO)
        httpx.get("https://gateway.test/api/hello")
        inner.target = None
        httpx.get(HELLO)
    assert [event.get("host") for event in outer.events("invoke")] == ["gateway.test", "api.anthropic.com"]
    assert len(inner.events("invoke")) == 1


def _patched():
    owners = [
        getattr(getattr(module, "_" + kind.lower()), name)
        for module in (httpcore, httpcore2)
        for kind in ("Sync", "Async")
        for name in ("connection", "connection_pool", "http_proxy")
    ]
    functions = [
        vars(owner).get(method)
        for module in owners
        for owner in vars(module).values()
        if isinstance(owner, type)
        for method in ("handle_request", "handle_async_request")
    ]
    return [*functions, httpx.Client._transport_for_url, httpx.AsyncClient._transport_for_url]


def test_it_may_be_entered_again_and_leaves_nothing_behind():
    """It answers until it was left as often as entered; then every patched function is the original again."""
    before = _patched()
    world = World()
    with world.interceptor:
        assert _patched() != before
        with world.interceptor:
            assert httpx.get(HELLO).status_code == 200
        assert httpx.get(HELLO).status_code == 200
    assert _patched() == before
    assert all(not mocker.routers and not mocker._patches for mocker in Mocker.registry.values())


def test_handles_may_be_left_in_any_order():
    """Two interceptors that do not nest (fixtures may not) do not unpatch each other."""
    before = _patched()
    first, second = World(), World()
    first.interceptor.start()
    second.interceptor.start()
    first.interceptor.stop()
    assert httpx.get(HELLO).status_code == 200
    assert len(second.events("invoke")) == 1
    second.interceptor.stop()
    assert _patched() == before


def test_httpx2_without_its_extra_is_an_error_before_anything_is_patched(monkeypatch):
    """The error names the extra, and nothing is left half done."""
    monkeypatch.setattr(Mocker, "registry", {name: m for name, m in Mocker.registry.items() if name != "httpcore2"})
    monkeypatch.setitem(sys.modules, "pytest_httpx2", None)
    before = _patched()
    with pytest.raises(MissingExtra, match=r'pip install "pytest-claude-tokens\[httpx2\]"'):
        World().interceptor.start()
    assert _patched() == before
    assert routing._active == []


def test_without_httpx2_httpx_alone_is_answered(monkeypatch):
    """A machine without httpx2 needs no extra."""
    monkeypatch.setattr(routing, "importable", lambda name: False)
    with World().interceptor:
        assert httpx.get(HELLO).status_code == 200
        assert not Mocker.registry["httpcore2"].routers


def test_httpx2_is_answered_without_pytest():
    """In a plain program pytest-httpx2 was not loaded as a plugin: the interceptor fetches it."""
    program = """
import sys, httpx2
from tests.unit.transports.inprocess_world import World
assert "pytest_httpx2" not in sys.modules
with World().interceptor:
    print(httpx2.get("https://api.anthropic.com/api/hello").status_code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("200\n", "")


def test_importable_looks_without_importing(monkeypatch):
    """A module is importable if it is loaded or can be found; one that was blocked is not."""
    assert libraries.importable("httpx2")
    assert libraries.importable("this")
    assert "this" not in sys.modules
    assert not libraries.importable("no_such_module_here")
    monkeypatch.setitem(sys.modules, "httpx2", None)
    assert not libraries.importable("httpx2")


@both
def test_the_worker_in_the_context_is_the_actor(library):
    """`worker()` names who asks, in tasks and threads that inherit its context; it outranks the session id."""
    world = World()
    session = {"x-claude-code-session-id": "0123456789"}
    with world.interceptor:
        token = WORKER.set("w7")
        ask(library, "sync", "GET", HELLO, headers=session)
        ask(library, "async", "GET", HELLO)
        asyncio.run(asyncio.to_thread(ask, library, "sync", "GET", HELLO))
        WORKER.reset(token)
        ask(library, "sync", "GET", HELLO, headers=session)
        ask(library, "sync", "GET", "https://api.anthropic.com/w/w%208/api/hello")
    actors = [event.actor for event in world.events("invoke")]
    assert actors == ["w7", "w7", "w7", "session-01234567", "w 8"]


def test_else_the_task_or_the_thread_is_the_actor():
    """Without better knowledge each task and each thread counts as a worker of its own."""
    world = World()

    async def main():
        async with httpx2.AsyncClient() as client:
            task = asyncio.create_task(client.get(HELLO), name="courier")
            await task
        httpx.get(HELLO)  # a synchronous client in a task is that task's

    with world.interceptor:
        asyncio.run(main())
        with ThreadPoolExecutor(1, thread_name_prefix="porter") as pool:
            pool.submit(httpx.get, HELLO).result()
    first, second, third = (event.actor for event in world.events("invoke"))
    assert (first, second[:5], third) == ("courier", "Task-", "porter_0")


def test_threads_are_answered_at_once_and_each_once():
    """Forty requests of eight threads are forty operations, each with its end."""
    world = World(serialize=None, slots=None)
    with world.interceptor, httpx.Client() as client, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: client.post(CALL, **world.message(str(n))), range(40)))
    assert [reply.json()["content"][0]["text"] for reply in replies] == [str(n) for n in range(40)]
    assert len(world.events("ok")) == 40
