"""Published OAuth clients, written as their own pages show: one line says which service it is.

authlib (httpx and requests), requests-oauthlib, msal, and the OpenAI SDK.
"""

from __future__ import annotations

import httpx
import pytest

from fake_server import Service
from pytest_claude_tokens import explore
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.violations import CoSchedule, DoubleSpend
from tests.interop.searching import caught, few, spared

AUTH = "https://auth.example.com"
TOKEN = f"{AUTH}/oauth2/token"
API = "https://api.example.com/api/things"


def test_one_client_of_authlib_for_two_tasks_is_sound():
    """It refreshes under a lock of its own."""
    client = pytest.importorskip("authlib.integrations.httpx_client", reason="needs authlib")

    @few
    @explore(workers=2)
    async def test(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        async with client.AsyncOAuth2Client(
            account.client_id, account.client_secret, token=account.tokens, token_endpoint=TOKEN
        ) as http:
            await workers(lambda: http.get(API))

    spared(test, service="oauth")


def test_two_clients_of_authlib_with_one_token_spend_it_twice():
    """Each has a lock of its own."""
    client = pytest.importorskip("authlib.integrations.httpx_client", reason="needs authlib")

    @few
    @explore(workers=2)
    async def test(claude_tokens, workers):
        account = claude_tokens.account(expired=True)

        async def job():
            async with client.AsyncOAuth2Client(
                account.client_id, account.client_secret, token=account.tokens, token_endpoint=TOKEN
            ) as http:
                await http.get(API)

        await workers(job)

    caught(test, DoubleSpend, service="oauth")


def test_one_client_of_authlib_for_two_threads_spends_its_token_twice():
    """The synchronous one has no lock."""
    client = pytest.importorskip("authlib.integrations.httpx_client", reason="needs authlib")

    @few
    @explore(workers=2)
    def test(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        http = client.OAuth2Client(account.client_id, account.client_secret, token=account.tokens, token_endpoint=TOKEN)
        workers(lambda: http.get(API))

    caught(test, DoubleSpend, service="oauth")


def test_every_endpoint_under_authlib():
    """The code grant with PKCE, a refresh, introspection, revocation, client credentials."""
    library = pytest.importorskip("authlib.integrations.httpx_client", reason="needs authlib")
    with ClaudeTokens(service="oidc") as tokens:
        client = library.OAuth2Client("mine", redirect_uri="http://localhost/cb", code_challenge_method="S256")
        client.scope = "openid"
        verifier = "v" * 48
        url, state = client.create_authorization_url(f"{AUTH}/oauth2/authorize", code_verifier=verifier)
        back = httpx.get(url).headers["location"]
        client.fetch_token(TOKEN, authorization_response=back, code_verifier=verifier, state=state)
        assert client.get(API).json() == {"ok": True}
        first = client.token["access_token"]
        client.refresh_token(TOKEN)
        assert client.token["access_token"] != first
        found = client.introspect_token(f"{AUTH}/oauth2/introspect", token=client.token["access_token"])
        assert found.json()["active"] is True
        client.revoke_token(f"{AUTH}/oauth2/revoke", token=client.token["access_token"])
        assert client.get(API).status_code == 401
        account = tokens.account()
        machine = library.OAuth2Client(account.client_id, account.client_secret, token_endpoint=TOKEN)
        assert "refresh_token" not in machine.fetch_token(TOKEN, grant_type="client_credentials")


def test_the_id_token_is_one_that_authlib_believes():
    """Its signature by the keys that discovery names, its issuer, its audience."""
    jose = pytest.importorskip("authlib.jose", reason="needs authlib")
    with ClaudeTokens(service="oidc") as tokens:
        account = tokens.account("alice")
        found = httpx.get(f"{AUTH}/.well-known/openid-configuration").json()
        keys = jose.JsonWebKey.import_key_set(httpx.get(found["jwks_uri"]).json())
        options = {"iss": {"essential": True, "value": found["issuer"]}, "aud": {"value": account.client_id}}
        claims = jose.jwt.decode(account.tokens["id_token"], keys, claims_options=options)
        claims.validate()
        assert claims["sub"] == "alice"


def test_requests_oauthlib_refreshes_by_itself(monkeypatch):
    """Over loopback, where its own check for TLS is off."""
    library = pytest.importorskip("requests_oauthlib", reason="needs requests-oauthlib")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    with ClaudeTokens(service="oauth") as tokens:
        account, saved = tokens.account(expired=True), []
        session = library.OAuth2Session(
            account.client_id,
            token=account.tokens,
            auto_refresh_url=f"{tokens.url}/oauth2/token",
            auto_refresh_kwargs={"client_id": account.client_id, "client_secret": account.client_secret},
            token_updater=saved.append,
        )
        assert session.get(f"{tokens.url}/api/things").json() == {"ok": True}
        assert saved[0]["refresh_token"] != account.refresh_token


def test_msal_finds_and_refreshes_a_tenant():
    """By OpenID discovery, with the issuer that the tenant's authority names; through the proxy, over TLS."""
    msal = pytest.importorskip("msal", reason="needs msal")
    service = Service.oidc(
        hosts=["login.acme.example"], token="/{tenant}/oauth2/v2.0/token", authorize="/{tenant}/oauth2/v2.0/authorize",
        device="/{tenant}/oauth2/v2.0/devicecode", issuer="/{tenant}/v2.0",
    )  # fmt: skip
    with ClaudeTokens(service=service) as tokens, tokens.environ():
        if tokens.proxy_url is None:
            pytest.skip("needs the extra `proxy`")
        account = tokens.account()
        app = msal.PublicClientApplication(account.client_id, oidc_authority="https://login.acme.example/acme/v2.0")
        found = app.acquire_token_by_refresh_token(account.refresh_token, scopes=["email"])
        assert found.get("access_token"), found
        flow = app.initiate_device_flow(scopes=["email"])
        assert httpx.get(flow["verification_uri"], params={"user_code": flow["user_code"]}).is_success
        assert app.acquire_token_by_device_flow(flow).get("access_token")


OPENAI = Service.oauth(
    hosts=["api.openai.com"],
    resources=["POST /v1/chat/completions"],
    respond={
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
    },
)  # fmt: skip


@pytest.mark.parametrize("limit", [1, None])
def test_the_openai_sdk_shares_a_bearer(limit):
    """Which is forbidden where the limit says so."""
    openai = pytest.importorskip("openai", reason="needs openai")

    @few
    @explore(workers=2)
    async def test(claude_tokens, workers):
        client = openai.AsyncOpenAI(api_key=claude_tokens.account().access_token)
        messages = [{"role": "user", "content": "hello"}]
        replies = await workers(lambda: client.chat.completions.create(model="m", messages=messages))
        assert [reply.choices[0].message.content for reply in replies] == ["hi", "hi"]

    if limit is None:
        spared(test, service=OPENAI)
    else:
        caught(test, CoSchedule, service=OPENAI, limit=limit)
