"""A handle of any service: its accounts, hosts, stores, faults and verdict, through the clients of this process."""

from __future__ import annotations

import json
import logging
import os
import stat

import httpx
import pytest
import requests

from fake_server import Fault, Service
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.violations import (
    CoSchedule,
    DoubleSpend,
    LostRotation,
    StaleBearer,
    StoreRegression,
    TokenLeak,
    Unserved,
)

TOKEN = "https://auth.example.com/oauth2/token"
API = "https://api.example.com/api/things"


def renew(refresh, url=TOKEN, **form):
    return httpx.post(url, data={"grant_type": "refresh_token", "refresh_token": refresh, **form})


def call(bearer, url=API):
    return httpx.get(url, headers={"Authorization": f"Bearer {bearer}"})


def test_its_account_is_what_a_client_stores():
    """The token endpoint's reply, and the client; its `repr` shows none of it."""
    with ClaudeTokens(service="oidc") as tokens:
        account = tokens.account("alice")
        assert account.tokens["access_token"] == account.access_token
        assert account.tokens["refresh_token"] == account.refresh_token
        assert (account.tokens["expires_in"], account.tokens["token_type"]) == (28800, "Bearer")
        assert account.tokens["scope"] == "openid profile email offline_access"
        assert account.tokens["id_token"].startswith("eyJ")
        assert (account.client_id, repr(account)) == ("client-alice", "<Account alice g#1>")
        assert account.client_secret.startswith("sk-FAKE-")
        assert tokens.account("bob", expired=True).tokens["expires_in"] == -1
        assert httpx.post(
            TOKEN,
            data={"grant_type": "refresh_token", "refresh_token": account.refresh_token},
            auth=(account.client_id, account.client_secret),
        ).is_success


def test_an_account_of_claude_is_what_it_was():
    """With the reply that the token endpoint gives, and the public client of Claude Code."""
    with ClaudeTokens() as tokens:
        account = tokens.account("alice")
        assert account.tokens["account"]["email_address"] == "alice@fake.invalid"
        assert (account.client_id[:8], account.client_secret) == ("9d1c250a", None)
        setup = tokens.account(setup_token=True)
        assert "refresh_token" not in setup.tokens


def test_its_default_policy_is_oauth():
    """Unless one is given; without a queue, two at once are no matter unless `limit` says so."""
    assert ClaudeTokens(service="mcp").policy.name == "oauth"
    assert ClaudeTokens("keycloak", service="mcp").policy.name == "keycloak"
    assert ClaudeTokens().policy.name == "anthropic"
    assert ClaudeTokens(service="mcp").server.journal.header.get("limit") is None
    assert ClaudeTokens(service="mcp", limit=2).server.journal.header.get("limit") == 2
    assert ClaudeTokens("grace", service="mcp").server.journal.header.get("limit") == 1


@pytest.mark.parametrize(
    ("service", "says"),
    [("oauth3", "no service is named 'oauth3'; choose one of"), (3, "service=3: must be a Service or the name of one")],
)
def test_a_service_that_is_none_is_refused(service, says):
    """With those that there are."""
    with pytest.raises(ValueError, match=says):
        ClaudeTokens(service=service)


def overlap(limit):
    with ClaudeTokens(service="oauth", limit=limit) as tokens:
        bearer = tokens.account().access_token

        def respond(request):
            if request.headers.get("x-first"):
                with tokens.worker("w1"):
                    call(bearer)
            return {}

        tokens.server.service = tokens.server.service.but(respond=respond)
        with tokens.worker("w0"):
            httpx.get(API, headers={"Authorization": f"Bearer {bearer}", "X-First": "yes"})


def test_two_calls_at_once_are_judged_where_a_limit_is_given():
    """The second comes while the first is being answered."""
    overlap(None)
    with pytest.raises(CoSchedule):
        overlap(1)


def test_its_calls_are_judged():
    """A bearer that was refused, presented again."""
    with pytest.raises(StaleBearer), ClaudeTokens(service="oauth") as tokens:
        bearer = tokens.account(expired=True).access_token
        assert [call(bearer).status_code for _ in range(2)] == [401, 401]


def test_its_refreshes_are_judged():
    """At whatever path the service has."""
    service = Service.oauth(hosts=["login.acme.example"], token="/v2/token")
    with pytest.raises(DoubleSpend), ClaudeTokens(service=service) as tokens:
        refresh = tokens.account(expired=True).refresh_token
        for _ in range(2):
            renew(refresh, "https://login.acme.example/v2/token")


def test_further_hosts_add_to_its_own():
    """The same service, under one more name."""
    with ClaudeTokens(service="mcp", hosts=["tools.example"]) as tokens:
        assert tokens.hosts == ("mcp.example.com", "tools.example")
        found = httpx.get("https://tools.example/.well-known/oauth-authorization-server").json()
        assert found["issuer"] == "https://tools.example"


def test_a_refresh_token_at_a_path_that_there_is_not_is_told():
    """Before the body's own error, and once; a bearer there is only noted."""
    with pytest.raises(Unserved, match=r"rt#1 by \S+ \(#\d+\) to POST auth.example.com/oauth/token -> 404") as told:
        with ClaudeTokens(service="oauth") as tokens:
            account = tokens.account()
            renew(account.refresh_token, "https://auth.example.com/oauth/token").raise_for_status()
    assert "not an endpoint of service 'oauth'; say which service it is" in str(told.value)
    assert isinstance(told.value.__cause__, httpx.HTTPStatusError)
    with ClaudeTokens(service="oauth") as tokens:
        account = tokens.account()
        for path in ("a", "b"):
            renew(account.refresh_token, f"https://auth.example.com/{path}")
        call(account.access_token, "https://api.example.com/v1/models")
        with pytest.raises(Unserved, match=r"\(and 1 more\)"):
            tokens.check()
        notes = [note for note in tokens.finish().notes if note.why == "elsewhere"]
        assert [str(note).partition(" to ")[2] for note in notes] == [
            "GET api.example.com/v1/models -> 404: not an endpoint of service 'oauth'"
        ]


def test_a_skip_is_not_replaced():
    """As by a violation."""
    with pytest.raises(pytest.skip.Exception), ClaudeTokens() as tokens:
        renew(tokens.account().refresh_token, "https://platform.claude.com/oauth2/token")
        pytest.skip("not today")


def json_at(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)["tokens"]["refresh_token"]


@pytest.mark.parametrize("read", ["tokens.refresh_token", "tokens.0.refresh_token", json_at])
def test_a_store_of_any_shape(tmp_path, read):
    """A dotted path into its JSON, or a function of its path; what was stored and is dead is a regression."""
    file = tmp_path / "store.json"

    def store(token):
        kept = {"refresh_token": token}
        file.write_text(json.dumps({"tokens": [kept] if read == "tokens.0.refresh_token" else kept, "other": 1}))

    def once(again):
        with ClaudeTokens(service="oauth") as tokens:
            account = tokens.account()
            store(account.refresh_token)
            tokens.watch_store(file, account, read=read)
            new = renew(account.refresh_token).json()["refresh_token"]
            store(new)
            call(account.access_token)
            store(again or new)

    once(None)
    with pytest.raises((StoreRegression, LostRotation)):
        once("a token that is dead")


@pytest.mark.parametrize("stored", ['{"tokens": {}}', '{"tokens": null}', '{"tokens": []}', "{}", '{"tokens": 3}'])
def test_a_store_without_the_token_is_blank(tmp_path, stored):
    """Which it must not become while the service accepts what it had."""
    file = tmp_path / "store.json"
    with pytest.raises((StoreRegression, LostRotation)), ClaudeTokens(service="oauth") as tokens:
        account = tokens.account()
        file.write_text(json.dumps({"tokens": [{"refresh_token": account.refresh_token}]}))
        tokens.watch_store(file, account, read="tokens.0.refresh_token")
        file.write_text(stored)
        call(account.access_token)


def test_what_a_function_returns_may_be_read_by_a_path(tmp_path):
    """A callable for a store, and a path into what it returns."""
    with ClaudeTokens(service="oauth") as tokens:
        account = tokens.account()
        tokens.watch_store(lambda: {"t": {"r": account.refresh_token}}, account, read="t.r")
        call(account.access_token)
        (note,) = [event for event in tokens.history if event.f == "store"]
        assert (note.refresh, note.get("accepted")) == ("rt#1", True)


@pytest.mark.parametrize("read", [3, "", "sk-ant-ort01-" + "x" * 90])
def test_a_way_to_read_that_is_none_is_refused(tmp_path, read):
    """And never repeated if it is a secret."""
    with ClaudeTokens() as tokens, pytest.raises(ValueError, match=r"watch_store\(read=.*must be a dotted path"):
        tokens.watch_store(tmp_path / "x", tokens.account(), read=read)


ASKED = {
    "token": ("POST", "/oauth2/token"),
    "call": ("GET", "/api/x"),
    "metadata": ("GET", "/.well-known/openid-configuration"),
    "authorize": ("GET", "/oauth2/authorize"),
    "revoke": ("POST", "/oauth2/revoke"),
    "introspect": ("POST", "/oauth2/introspect"),
    "register": ("POST", "/oauth2/register"),
    "device": ("POST", "/oauth2/device"),
    "userinfo": ("GET", "/oauth2/userinfo"),
}


def test_a_fault_strikes_any_endpoint_by_its_name():
    """That one, and no other."""
    with ClaudeTokens(service="oidc") as tokens:
        for target, (method, path) in ASKED.items():
            tokens.fail_next(target, Fault.status(503))
            for name, (its, other) in ASKED.items():
                if name != target:
                    assert httpx.request(its, f"https://auth.example.com{other}").status_code != 503
            assert httpx.request(method, f"https://auth.example.com{path}").status_code == 503


def test_a_fault_for_an_endpoint_that_there_is_not_is_refused():
    """With those that there are."""
    with ClaudeTokens(service=Service.mcp(resources=[])) as tokens:
        with pytest.raises(ValueError, match='a "token" or a "metadata" or a "authorize" or a "register" request, not'):
            tokens.fail_next("call", Fault.RESET)
    with ClaudeTokens() as tokens, pytest.raises(ValueError, match='a "token" or a "call" request'):
        tokens.fail_next("metadata", Fault.RESET)


def test_a_child_finds_its_login_in_a_file():
    """Readable by its owner only; written once."""
    with ClaudeTokens(service="oauth") as tokens:
        account = tokens.account("alice")
        path = tokens.env(account)["CLAUDE_TOKENS_LOGIN"]
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with open(path, encoding="utf-8") as file:
            assert json.load(file) == {
                "name": "alice",
                "access_token": account.access_token,
                "refresh_token": account.refresh_token,
                "expires_at": account.expires_at,
                "tokens": account.tokens,
                "client_id": account.client_id,
                "client_secret": account.client_secret,
            }
        assert tokens.env(account)["CLAUDE_TOKENS_LOGIN"] == path
        assert "CLAUDE_TOKENS_LOGIN" not in tokens.env()


def test_what_is_served_can_be_asked():
    """By whoever has the handle, and at `/_claude_tokens/endpoints`."""
    claude = ClaudeTokens().server.endpoints()
    assert {"name": "token", "methods": ["POST"], "path": "/v1/oauth/token"} in claude["endpoints"]
    found = ClaudeTokens(service="oidc").server.endpoints()
    assert found["resources"] == ["GET /api/*", "POST /api/*"]
    assert [one["name"] for one in found["endpoints"]] == [
        "token", "authorize", "revoke", "introspect", "register", "device", "userinfo", "keys", "verify",
        "server-metadata", "openid-metadata", "resource-metadata",
    ]  # fmt: skip
    assert ClaudeTokens(service=Service.mcp(resources=[])).server.endpoints()["resources"] == []


def test_a_signed_token_in_a_log_is_a_leak(caplog):
    """As any other that is live."""
    with pytest.raises(TokenLeak), ClaudeTokens(service=Service.oauth(access_token="jwt")) as tokens:
        logging.getLogger("app").warning("got %s", tokens.account().access_token)
        caplog.clear()  # pytest prints what it has captured


def test_its_hosts_are_guarded_like_the_real_ones():
    """A client that is not answered in process never looks them up."""
    with ClaudeTokens(service="oidc") as tokens:
        with pytest.raises(Exception, match=r"refused to reach auth\.example\.com"):
            requests.get("https://auth.example.com/oauth2/keys", timeout=5)
        assert [event.get("host") for event in tokens.history if event.f == "refused"] == ["auth.example.com"]
