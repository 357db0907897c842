"""With real libraries: what is refused is refused by us, before anything is looked up or sent."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
import httpx2
import pytest
import requests

from fake_server.hosts import LISTENING_PORTS
from pytest_claude_tokens.guard import RealServiceRefused, audit, files
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens


@pytest.fixture
def tokens():
    with ClaudeTokens() as handle:
        yield handle


def by_socket():
    socket.create_connection(("api.anthropic.com", 443), timeout=1)


def by_look_up():
    socket.gethostbyname("claude.ai")


def by_urllib():
    urllib.request.urlopen("https://console.anthropic.com/", timeout=1)


def by_http_client():
    http.client.HTTPSConnection("platform.claude.com", timeout=1).request("GET", "/")


def by_requests():
    requests.get("https://api.anthropic.com/v1/models", timeout=1)


def by_asyncio():
    asyncio.run(asyncio.wait_for(asyncio.open_connection("api.anthropic.com", 443), 1))


def by_aiohttp():
    async def get():
        async with aiohttp.ClientSession() as session, session.get("https://claude.ai/api/hello") as reply:
            return reply.status

    asyncio.run(get())


def by_httpx():
    httpx.get("https://api.anthropic.com/api/hello", timeout=1)


def by_httpx2():
    httpx2.get("https://api.anthropic.com/api/hello", timeout=1)


def by_async_httpx():
    async def get():
        async with httpx.AsyncClient(timeout=1) as client:
            await client.get("https://api.anthropic.com/api/hello")

    asyncio.run(get())


def by_connect():
    with socket.socket() as client:
        client.connect(("api.anthropic.com", 443))


def by_connect_ex():
    with socket.socket() as client:
        client.connect_ex(("api.anthropic.com", 443))


def by_datagram():
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("api.anthropic.com", 443))


def by_datagram_with_flags():
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(b"x", 0, ("api.anthropic.com", 443))


def by_message():
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendmsg([b"x"], [], 0, ("api.anthropic.com", 443))


DIRECT = [by_connect, by_connect_ex, by_datagram, by_datagram_with_flags, by_message]
WAYS = [*DIRECT, by_socket, by_look_up, by_urllib, by_http_client, by_requests, by_asyncio, by_aiohttp]


@pytest.mark.parametrize("way", WAYS)
def test_no_client_reaches_a_real_host(tokens, way):
    """Whatever the library, the error is ours, and it comes before any name is looked up."""
    with pytest.raises(RealServiceRefused, match="refused to reach"):
        way()


@pytest.mark.parametrize("way", [*WAYS, by_httpx, by_httpx2, by_async_httpx])
def test_a_thread_that_wakes_after_its_test_is_refused(way):
    """The handle is closed, the session goes on, and so does the guard."""
    with ClaudeTokens():
        pass

    with ThreadPoolExecutor(1) as pool, pytest.raises(RealServiceRefused):
        pool.submit(way).result()


@pytest.mark.parametrize("way", DIRECT)
def test_a_socket_looks_up_no_name(tokens, monkeypatch, way):
    """The interpreter would look it up before it tells the hook: without the hook the error is the same."""
    monkeypatch.setattr(audit, "_table", {})

    with pytest.raises(RealServiceRefused, match="refused to reach"):
        way()


def test_a_proxy_of_the_users_is_not_asked(tokens, monkeypatch):
    """HTTPS_PROXY would have the name looked up elsewhere: NO_PROXY leads the client here, where it is refused."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for way in (by_urllib, by_requests):
            with pytest.raises(RealServiceRefused):
                way()
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_a_tunnel_through_a_proxy_given_by_hand_is_refused(tokens, monkeypatch):
    """`proxies=` has no regard for NO_PROXY; the tunnel's request would name the real host."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setattr("fake_server.hosts.is_loopback", lambda host: False)  # as if this proxy were elsewhere
        with pytest.raises(RealServiceRefused):
            requests.get(
                "https://api.anthropic.com", proxies={"https": f"http://127.0.0.1:{proxy.getsockname()[1]}"}, timeout=5
            )
        proxy.settimeout(5)
        connection, _ = proxy.accept()
        with connection:
            connection.settimeout(5)
            assert connection.recv(100) == b""


def test_a_plain_request_through_a_proxy_is_refused(tokens):
    """Without a tunnel, the request's own line names the real host; loopback is no excuse, unless the proxy is ours."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        with pytest.raises(RealServiceRefused):
            requests.get(
                "http://api.anthropic.com/", proxies={"http": f"http://127.0.0.1:{proxy.getsockname()[1]}"}, timeout=5
            )

    assert requests.get("http://api.anthropic.com/api/hello", proxies={"http": tokens.url}, timeout=5).status_code < 500


def aiohttp_by(proxy, url):
    async def get():
        async with aiohttp.ClientSession() as session, session.get(url, proxy=proxy) as reply:
            return reply.status

    asyncio.run(get())


def httpx_by(proxy, url):
    httpx.get(url, proxy=proxy, timeout=5)


def httpx2_by(proxy, url):
    httpx2.get(url, proxy=proxy, timeout=5)


@pytest.mark.parametrize("url", ["http://status.anthropic.com/", "https://status.anthropic.com/"])
@pytest.mark.parametrize("way", [aiohttp_by, httpx_by, httpx2_by])
def test_a_proxy_given_by_hand_is_asked_for_no_real_host(tokens, way, url, monkeypatch):
    """Clients with a tunnel of their own."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setattr("fake_server.hosts.is_loopback", lambda host: False)  # as if this proxy were elsewhere
        with pytest.raises(RealServiceRefused):
            way(f"http://127.0.0.1:{proxy.getsockname()[1]}", url)
        proxy.settimeout(5)
        connection, _ = proxy.accept()
        with connection:
            connection.settimeout(5)
            assert connection.recv(100) == b""


def test_a_server_of_ours_is_known_while_it_listens():
    """Its port may be somebody else's afterwards."""
    with ClaudeTokens() as tokens:
        port = int(tokens.url.rpartition(":")[2])
        assert port in LISTENING_PORTS

    assert port not in LISTENING_PORTS


def test_loopback_is_open(tokens):
    """The service's own address, and any other server of the test's."""
    assert requests.get(tokens.url + "/api/hello", timeout=5).status_code == 200
    with urllib.request.urlopen(tokens.url + "/api/hello", timeout=5) as reply:
        assert reply.status == 200


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a login in it, which the guard takes for the user's real one."""
    login = tmp_path / "home" / ".claude" / ".credentials.json"
    login.parent.mkdir(parents=True)
    login.write_text("real")
    monkeypatch.setattr(files, "_homes", lambda scratch: [str(tmp_path / "home")])
    files._guarded_places.cache_clear()
    yield tmp_path / "home"
    monkeypatch.undo()
    files._guarded_places.cache_clear()


def test_the_real_login_is_out_of_reach_of_any_code(home):
    """Reading, writing, replacing, moving away, removing: each is refused, and the file is as it was."""
    login = home / ".claude" / ".credentials.json"
    other = home / "other"
    other.write_text("other")
    with ClaudeTokens():
        for deed in (
            login.read_text,
            lambda: login.write_text(""),
            lambda: os.open(login, os.O_RDONLY),
            lambda: other.replace(login),
            lambda: login.rename(other),
            login.unlink,
            (home / ".claude" / ".lock").mkdir,
            (home / ".claude.lock").mkdir,
            lambda: shutil.rmtree(home / ".claude"),
            lambda: shutil.copy(login, other),
            lambda: sqlite3.connect(home / ".claude" / "history.db"),
            lambda: sqlite3.connect(f"{(home / '.claude' / 'history.db').as_uri()}?mode=ro", uri=True),
            lambda: other.with_name("link").symlink_to(login),
        ):
            with pytest.raises(RealServiceRefused, match="refused to touch"):
                deed()
        assert other.read_text() == "other"

    assert login.read_text() == "real"


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["claude", "-p", "x"], check=False),
        lambda: subprocess.run(["bash", "-c", "exec claude"], check=False),
        lambda: subprocess.run("cd / && claude -p x", shell=True, check=False),
        lambda: subprocess.Popen(["flock", "-w", "600", "lock", "claude"]),
        lambda: subprocess.run(["claude"], env=os.environ, check=False),
        lambda: os.system("claude -p x"),
        lambda: asyncio.run(asyncio.create_subprocess_exec("claude")),
    ],
)
def test_a_claude_with_the_users_environment_is_not_started(tokens, start):
    """It would use the real login."""
    with pytest.raises(RealServiceRefused, match="refused to start claude"):
        start()


def test_a_claude_in_our_environment_is_started(tokens, tmp_path):
    """`env=tokens.env()`, or inside `tokens.environ()`."""
    stub = tmp_path / "claude"
    stub.write_text("#!/bin/sh\necho started\n")
    stub.chmod(0o755)

    assert subprocess.run([stub], env=tokens.env(), capture_output=True, check=True).stdout == b"started\n"
    with tokens.environ():
        assert subprocess.run([stub], capture_output=True, check=True).stdout == b"started\n"


def test_nothing_is_left_when_the_session_is_over(tmp_path):
    """In a process of its own: guarded from the first handle on, and as before after `disarm`."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, socket
            from pytest_claude_tokens import ClaudeTokens
            from pytest_claude_tokens.guard import guard

            def look_up():
                try:
                    socket.getaddrinfo("api.anthropic.com", 443, flags=socket.AI_NUMERICHOST)
                except Exception as error:
                    return type(error).__name__

            said = [look_up()]
            with ClaudeTokens():
                said.append(look_up())
            said.append(look_up())
            said.append(os.environ.get("NO_PROXY"))
            guard.uninstall()
            said += [look_up(), os.environ.get("NO_PROXY")]
            print(said)
            """
        )
    )
    environment = {name: value for name, value in os.environ.items() if name.upper() != "NO_PROXY"}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )

    refused = "RealServiceRefused"
    hosts = "anthropic.com,claude.com,claude.ai"
    assert done.stdout.strip() == str(["gaierror", refused, refused, hosts, "gaierror", None])


def test_the_guard_is_cheap_to_load():
    """Neither asyncio nor ssl, which the plugin may not load, nor the service: of its package only the values."""
    code = (
        "import sys; before = set(sys.modules); import pytest_claude_tokens.guard.guard\n"
        "new = set(sys.modules) - before\n"
        "print([m for m in ('asyncio', 'ssl', 'socket', 'subprocess', 'fake_server.server') if m in new])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_the_guard_is_quick(tokens):
    """An event that nobody guards costs a look into a table: a hundred thousand of them take no time to speak of."""
    before = threading.get_ident()
    for _ in range(100_000):
        sys.audit("claude_tokens.nothing")
    assert threading.get_ident() == before


def test_an_international_host_is_not_named_in_no_proxy(monkeypatch):
    """httpx2 reads that variable when a client is made, and refuses one with such a name in it."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with ClaudeTokens(hosts=["*.bücher.example", "plain.example"]):
        assert "plain.example" in os.environ["NO_PROXY"]
        assert "xn--" not in os.environ["NO_PROXY"]
