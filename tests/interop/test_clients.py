"""HTTP clients that nobody here wrote, over loopback sockets and through the TLS proxy: the same history for all."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
import requests
import urllib3

from fake_server import Fault
from pytest_claude_tokens import explore
from pytest_claude_tokens.guard import RealServiceRefused
from pytest_claude_tokens.violations import BlindReplay, CoSchedule, DoubleSpend
from tests.interop.searching import caught, few, spared

httpx2 = pytest.importorskip("httpx2", reason="needs the extra `httpx2`")

API = "https://api.anthropic.com"
PLATFORM = "https://platform.claude.com"
MESSAGE = {"model": "claude-fake", "max_tokens": 8, "messages": [{"role": "user", "content": "Reply: A"}]}
PATIENCE = 30

Answer = tuple[int, Any]
Post = Callable[..., Answer]


def with_requests(url: str, body: Any, headers: dict[str, str], tokens: Any) -> Answer:
    with requests.Session() as session, session.post(url, json=body, headers=headers, timeout=PATIENCE) as reply:
        return reply.status_code, reply.json()


def with_urllib3(url: str, body: Any, headers: dict[str, str], tokens: Any) -> Answer:
    if url.startswith("https:"):  # it does not read the environment
        with urllib3.ProxyManager(tokens.proxy_url, ca_certs=tokens.ca_file) as pool:
            return _with_pool(pool, url, body, headers)
    with urllib3.PoolManager() as pool:
        return _with_pool(pool, url, body, headers)


def _with_pool(pool: Any, url: str, body: Any, headers: dict[str, str]) -> Answer:
    reply = pool.request("POST", url, json=body, headers=headers, timeout=PATIENCE, retries=False)
    return reply.status, reply.json()


def with_urllib(url: str, body: Any, headers: dict[str, str], tokens: Any) -> Answer:
    headers = {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener()  # `urlopen` keeps the first environment that it saw
    try:
        with opener.open(request, timeout=PATIENCE) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def with_http_client(url: str, body: Any, headers: dict[str, str], tokens: Any) -> Answer:
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        proxy = urlsplit(tokens.proxy_url)
        context = ssl.create_default_context(cafile=tokens.ca_file)
        connection = http.client.HTTPSConnection(proxy.hostname, proxy.port, timeout=PATIENCE, context=context)
        connection.set_tunnel(parts.netloc)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
    try:
        headers = {**headers, "Content-Type": "application/json"}
        connection.request("POST", parts.path, json.dumps(body), headers)
        with connection.getresponse() as reply:
            return reply.status, json.load(reply)
    finally:
        connection.close()


def with_aiohttp(url: str, body: Any, headers: dict[str, str], tokens: Any) -> Answer:
    async def post() -> Answer:
        # aiohttp makes its default TLS context when it is imported, before there is a certificate to trust.
        context = ssl.create_default_context(cafile=tokens.ca_file)
        async with aiohttp.ClientSession(trust_env=True) as session:
            async with session.post(url, json=body, headers=headers, ssl=context) as reply:
                return reply.status, await reply.json()

    return asyncio.run(post())


def with_curl(url: str, body: Any, headers: dict[str, str], tokens: Any) -> Answer:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    lines = [f'header = "{name}: {value}"' for name, value in headers.items()]
    lines += [f'url = "{url}"', 'header = "Content-Type: application/json"', f"data = {json.dumps(json.dumps(body))}"]
    done = subprocess.run(  # the configuration is read from standard input: no token in argv
        ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}", "--config", "-"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    text, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text)


def with_httpx(url: str, body: Any, headers: dict[str, str], tokens: Any) -> Answer:
    with httpx.Client(timeout=PATIENCE) as client:
        reply = client.post(url, json=body, headers=headers)
        return reply.status_code, reply.json()


def with_httpx2(url: str, body: Any, headers: dict[str, str], tokens: Any) -> Answer:
    with httpx2.Client(timeout=PATIENCE) as client:
        reply = client.post(url, json=body, headers=headers)
        return reply.status_code, reply.json()


OVER_SOCKETS = [with_requests, with_urllib3, with_urllib, with_http_client, with_aiohttp, with_curl]
ANY = [*OVER_SOCKETS, with_httpx, with_httpx2]


def named(post: Any) -> str:
    name: str = post.__name__
    return name.removeprefix("with_")


def refreshes_and_calls(post: Post, tokens: Any, api: str, platform: str) -> list[tuple[Any, ...]]:
    """A refresh, a call with what it gave, a call with what had ended, and the same refresh again: as a history."""
    account = tokens.account(expired=True)
    body = {"grant_type": "refresh_token", "refresh_token": account.refresh_token, "client_id": "interop"}
    status, new = post(f"{platform}/v1/oauth/token", body, {}, tokens)
    assert (status, new["token_type"]) == (200, "Bearer")
    status, reply = post(f"{api}/v1/messages", MESSAGE, {"Authorization": f"Bearer {new['access_token']}"}, tokens)
    assert (status, reply["content"][0]["text"]) == (200, "A")
    status, reply = post(f"{api}/v1/messages", MESSAGE, {"Authorization": f"Bearer {account.access_token}"}, tokens)
    assert (status, reply["error"]["type"]) == (401, "authentication_error")
    assert tokens.violations() == []
    status, reply = post(f"{platform}/v1/oauth/token", body, {}, tokens)
    assert (status, reply["error"]) == (400, "invalid_grant")
    with pytest.raises(DoubleSpend, match="rt#1"):
        tokens.check()
    return [
        (event.f, event.type, event.refresh, event.bearer, event.issued, event.status)
        for event in tokens.history
        if event.type != "note"
    ]


HISTORY = [
    ("token", "invoke", "rt#1", None, None, None),
    ("token", "ok", "rt#1", None, {"access": "at#2", "refresh": "rt#2"}, 200),
    ("call", "invoke", None, "at#2", None, None),
    ("call", "ok", None, "at#2", None, 200),
    ("call", "invoke", None, "at#1", None, None),
    ("call", "fail", None, "at#1", None, 401),
    ("token", "invoke", "rt#1", None, None, None),
    ("token", "fail", "rt#1", None, None, 400),
]


@pytest.mark.parametrize("post", ANY, ids=named)
def test_over_loopback_sockets(claude_server, post):
    """Plain HTTP to the URL that names the worker."""
    url = f"{claude_server.url}/w/w7"
    assert refreshes_and_calls(post, claude_server, url, url) == HISTORY
    assert {operation.actor for operation in claude_server.history.operations} == {"w7"}


@pytest.mark.parametrize("post", OVER_SOCKETS, ids=named)
def test_the_real_hosts_through_the_proxy(claude_tokens, post):
    """`environ()` is all that a client needs which reads the usual variables."""
    if claude_tokens.proxy_url is None:
        pytest.skip("needs the extra `proxy`")
    with claude_tokens.environ():
        assert refreshes_and_calls(post, claude_tokens, API, PLATFORM) == HISTORY


@pytest.mark.parametrize("post", [with_httpx, with_httpx2], ids=named)
def test_the_real_hosts_in_process(claude_tokens, post):
    """httpx and httpx2 need nothing at all."""
    assert refreshes_and_calls(post, claude_tokens, API, PLATFORM) == HISTORY


@pytest.mark.parametrize("post", [with_requests, with_urllib, with_aiohttp], ids=named)
def test_the_real_hosts_are_refused_without_it(claude_tokens, post):
    """No library gets as far as a connection, nor makes another error of that one."""
    with pytest.raises(RealServiceRefused, match=r"refused to reach api\.anthropic\.com"):
        post(f"{API}/v1/messages", MESSAGE, {}, claude_tokens)
    assert claude_tokens.history.operations == []


# aiohttp under the search, through the simulated network.


async def redeem(session: aiohttp.ClientSession, login: dict[str, Any]) -> None:
    body = {"grant_type": "refresh_token", "refresh_token": login["refresh"], "client_id": "interop"}
    async with session.post(f"{PLATFORM}/v1/oauth/token", json=body) as reply:
        reply.raise_for_status()
        new = await reply.json()
    login.update(access=new["access_token"], refresh=new["refresh_token"], expired=False)


async def streamed(session: aiohttp.ClientSession, login: dict[str, Any]) -> bytes:
    headers = {"Authorization": f"Bearer {login['access']}"}
    async with session.post(f"{API}/v1/messages", json={**MESSAGE, "stream": True}, headers=headers) as reply:
        return b"".join([piece async for piece in reply.content.iter_any()])


def login_of(tokens: Any, **options: Any) -> dict[str, Any]:
    account = tokens.account(**options)
    return {"access": account.access_token, "refresh": account.refresh_token, "expired": bool(options)}


@few
@explore(workers=2)
async def no_lock(claude_tokens, workers):
    """Two tasks find the login expired."""
    login = login_of(claude_tokens, expired=True)
    async with aiohttp.ClientSession() as session:

        async def work() -> None:
            if login["expired"]:
                await redeem(session, login)

        await workers(work)


@few
@explore(workers=3)
async def lock(claude_tokens, workers):
    """One refreshes, and the calls come one after the other, each read to its end."""
    login, lock = login_of(claude_tokens, expired=True), asyncio.Lock()
    async with aiohttp.ClientSession() as session:

        async def work() -> bytes:
            async with lock:
                if login["expired"]:
                    await redeem(session, login)
                return await streamed(session, login)

        assert all(b"event: message_stop" in said for said in await workers(work))


@few
@explore(workers=2)
async def one_bearer(claude_tokens, workers):
    """Two streams are open at once."""
    login = login_of(claude_tokens)
    async with aiohttp.ClientSession() as session:
        await workers(lambda: streamed(session, login))


@few
@explore(workers=2, faults=[Fault.LOST_REPLY])
async def second_try(claude_tokens, workers):
    """The lock is sound; the second try is not."""
    login, lock = login_of(claude_tokens, expired=True), asyncio.Lock()
    async with aiohttp.ClientSession() as session:

        async def work() -> None:
            async with lock:
                for last in (False, True):
                    try:
                        if login["expired"]:
                            await redeem(session, login)
                        break
                    except aiohttp.ClientError:
                        if last:
                            raise

        await workers(work)


@pytest.mark.parametrize(
    ("test", "violation"),
    [(no_lock, DoubleSpend), (one_bearer, CoSchedule), (second_try, BlindReplay)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_search_catches_aiohttp(test, violation):
    """aiohttp works as it is in the simulated network; what is done wrong with it is found."""
    caught(test, violation)


def test_the_search_spares_aiohttp():
    """… and what is done right is not blamed."""
    assert spared(lock).histories > 1
