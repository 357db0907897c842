"""The SDK of the Model Context Protocol: its OAuth provider and its client, over Streamable HTTP, as its pages show."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pytest_claude_tokens import explore
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.violations import DoubleSpend
from tests.interop.searching import caught, few, spared

mcp = pytest.importorskip("mcp", reason="needs mcp")
auth = pytest.importorskip("mcp.client.auth")
shared = pytest.importorskip("mcp.shared.auth")
streaming = pytest.importorskip("mcp.client.streamable_http")
http = pytest.importorskip("httpx2" if hasattr(mcp, "Client") else "httpx")  # 2.x is built on the successor

URL = "https://mcp.example.com/mcp"
BACK = "http://localhost:3030/callback"


class Storage:
    """Where a client keeps its tokens."""

    def __init__(self, tokens: Any = None, info: Any = None) -> None:
        self.tokens, self.info = tokens, info

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.info

    async def set_client_info(self, client_info: Any) -> None:
        self.info = client_info


def provider(storage: Storage, expires_at: float | None = None) -> Any:
    """The SDK's provider; the person at the browser is a request that reads where it is redirected to."""
    seen: dict[str, str] = {}

    async def redirect(url: str) -> None:
        async with http.AsyncClient() as browser:
            reply = await browser.get(url)
        seen.update({name: values[0] for name, values in parse_qs(urlsplit(reply.headers["location"]).query).items()})

    async def callback() -> Any:
        made = getattr(auth, "AuthorizationCodeResult", None)
        return (seen["code"], seen["state"]) if made is None else made(**seen)

    metadata = shared.OAuthClientMetadata(client_name="test", redirect_uris=[BACK])
    made = auth.OAuthClientProvider(
        server_url=URL, client_metadata=metadata, storage=storage, redirect_handler=redirect, callback_handler=callback
    )
    made.context.token_expiry_time = expires_at
    return made


def stored(account: Any) -> Storage:
    info = shared.OAuthClientInformationFull(
        client_id=account.client_id, client_secret=account.client_secret, redirect_uris=[BACK]
    )
    return Storage(shared.OAuthToken.model_validate(account.tokens), info)


async def session(client: Any) -> str:
    """A whole session: it begins, lists the tools, and calls one."""
    transport = streaming.streamable_http_client(URL, http_client=client)
    if hasattr(mcp, "Client"):
        async with mcp.Client(transport) as one:
            return await told(one)
    async with transport as streams, mcp.ClientSession(*streams[:2]) as one:
        await one.initialize()
        return await told(one)


async def told(client: Any) -> str:
    assert [tool.name for tool in (await client.list_tools()).tools] == ["echo"]
    result = await client.call_tool("echo", {"text": "hi"})
    return str(result.content[0].text)


@pytest.mark.asyncio
async def test_a_client_finds_its_way_in():
    """From the 401 over both kinds of metadata, registration and PKCE to a token, and a call."""
    with ClaudeTokens(service="mcp") as tokens:
        storage = Storage()
        async with http.AsyncClient(auth=provider(storage)) as client:
            assert await session(client) == "hi"
        assert storage.tokens.refresh_token
        paths = [op.invoke.get("path") for op in tokens.history.operations]
        assert paths[:6] == [
            "/mcp",
            "/.well-known/oauth-protected-resource/mcp",
            "/.well-known/oauth-authorization-server",
            "/register",
            "/authorize",
            "/token",
        ]


def test_two_clients_on_one_storage_spend_its_token_twice():
    """Each provider has a lock of its own."""

    @few
    @explore(workers=2)
    async def test(claude_tokens: Any, workers: Any) -> None:
        account = claude_tokens.account(expired=True)
        storage = stored(account)

        async def job() -> None:
            async with http.AsyncClient(auth=provider(storage, account.expires_at)) as client:
                await session(client)

        await workers(job)

    caught(test, DoubleSpend, service="mcp")


def test_one_provider_for_six_calls_is_sound():
    """It refreshes under its lock, once."""

    @few
    @explore(workers=6)
    async def test(claude_tokens: Any, workers: Any) -> None:
        account = claude_tokens.account(expired=True)
        async with http.AsyncClient(auth=provider(stored(account), account.expires_at)) as client:
            await workers(lambda: client.post(URL, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}))

    spared(test, service="mcp")
