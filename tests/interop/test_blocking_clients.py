"""Published clients that block, in threads under the search: none is patched, and none is given another transport.

Each with a planted bug is caught, and its sound twin is spared.
"""

from __future__ import annotations

import io
import threading
import xmlrpc.client
from contextlib import nullcontext

import pytest

from fake_server import Service
from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import CoSchedule, DoubleSpend
from tests.interop.searching import caught, few, searched, spared

AUTH = "https://auth.example.com"
TOKEN = f"{AUTH}/oauth2/token"
API = "https://api.example.com/api/things"
SOUND = pytest.mark.parametrize("sound", [True, False], ids=["sound", "planted"])


def tried(test, sound, violation=DoubleSpend, **handle):
    """Search, and see what must come of it."""
    if sound:
        spared(test, **handle)
    else:
        caught(test, violation, **handle)


def credentials_of(account):
    """Google's, for an account of the service."""
    from google.oauth2.credentials import Credentials

    return Credentials(
        None,
        refresh_token=account.refresh_token,
        token_uri=TOKEN,
        client_id=account.client_id,
        client_secret=account.client_secret,
    )


@SOUND
def test_google_auth_over_requests(sound):
    """Its credentials have no lock: two threads that share them refresh at once."""
    pytest.importorskip("google.auth", reason="needs google-auth")
    pytest.importorskip("requests", reason="needs requests")
    from google.auth.transport.requests import AuthorizedSession

    @few
    @explore(workers=2)
    def test(claude_tokens, workers):
        account, lock = claude_tokens.account(expired=True), threading.Lock()
        login = credentials_of(account)

        def job():
            with AuthorizedSession(login) as http:
                with lock if sound else nullcontext():
                    if not login.valid:
                        login.refresh(http._auth_request)
                assert http.get(API, timeout=5).status_code == 200

        workers(job)

    tried(test, sound, service="oauth")


@SOUND
def test_google_auth_over_urllib3(sound):
    """The same on another transport."""
    pytest.importorskip("google.auth", reason="needs google-auth")
    urllib3 = pytest.importorskip("urllib3", reason="needs urllib3")
    from google.auth.transport.urllib3 import Request

    @few
    @explore(workers=2)
    def test(claude_tokens, workers):
        account, lock = claude_tokens.account(expired=True), threading.Lock()
        login = credentials_of(account)
        with urllib3.PoolManager() as pool:

            def job():
                with lock if sound else nullcontext():
                    if not login.valid:
                        login.refresh(Request(pool))

            workers(job)

    tried(test, sound, service="oauth")


@SOUND
def test_requests_oauthlib(sound):
    """A session that refreshes by itself, in two threads."""
    library = pytest.importorskip("requests_oauthlib", reason="needs requests-oauthlib")

    @few
    @explore(workers=2)
    def test(claude_tokens, workers):
        account, lock = claude_tokens.account(expired=True), threading.Lock()
        http = library.OAuth2Session(
            account.client_id,
            token={**account.tokens, "expires_in": -1},
            auto_refresh_url=TOKEN,
            auto_refresh_kwargs={"client_id": account.client_id, "client_secret": account.client_secret},
            token_updater=lambda token: None,
        )
        with http:

            def job():
                with lock if sound else nullcontext():
                    assert http.get(API).status_code == 200

            workers(job)

    tried(test, sound, service="oauth")


@SOUND
def test_msal(sound):
    """Two applications over one refresh token, and one after the other."""
    msal = pytest.importorskip("msal", reason="needs msal")
    tenant = "https://login.acme.example/acme/v2.0"
    service = Service.oidc(
        hosts=["login.acme.example"], token="/{tenant}/oauth2/v2.0/token", authorize="/{tenant}/oauth2/v2.0/authorize",
        device="/{tenant}/oauth2/v2.0/devicecode", issuer="/{tenant}/v2.0",
    )  # fmt: skip

    @few
    @explore(workers=2)
    def test(claude_tokens, workers):
        account, lock = claude_tokens.account(expired=True), threading.Lock()
        found = []

        def job():
            with lock if sound else nullcontext():
                if not (sound and found):
                    app = msal.PublicClientApplication(account.client_id, oidc_authority=tenant)
                    found.append(app.acquire_token_by_refresh_token(account.refresh_token, scopes=["email"]))

        workers(job)

    tried(test, sound, service=service)


@SOUND
def test_xmlrpc(sound):
    """A protocol of its own over ``http.client``: two calls on one bearer."""
    answer = xmlrpc.client.dumps((42,), methodresponse=True).encode()
    service = Service.oauth(
        hosts=["auth.example.com", "api.example.com"],
        resources=["POST /RPC2"],
        respond=lambda request: (200, {"content-type": "text/xml"}, answer),
    )

    @few
    @explore(workers=2)
    def test(claude_tokens, workers):
        account, lock = claude_tokens.account(), threading.Lock()
        bearer = [("Authorization", f"Bearer {account.access_token}")]

        def job():
            with lock if sound else nullcontext():
                with xmlrpc.client.ServerProxy("https://api.example.com/RPC2", headers=bearer) as server:
                    assert server.answer() == 42

        workers(job)

    tried(test, sound, CoSchedule, service=service, limit=1)


def test_pycurl_is_answered_and_not_scheduled():
    """A client in C: its requests are their workers', and the report says that they were not scheduled."""
    pycurl = pytest.importorskip("pycurl", reason="needs pycurl")

    @few
    @explore(workers=2)
    def test(claude_tokens, workers):
        url = claude_tokens.url + "/api/hello"

        def job():
            curl = pycurl.Curl()
            curl.setopt(curl.URL, url)
            curl.setopt(curl.WRITEDATA, io.BytesIO())
            curl.perform()
            curl.close()

        workers(job)

    _, report = searched(test)
    assert report.unscheduled == {"pycurl": 2 * report.schedules}
    assert report.text().endswith(f"not scheduled: {2 * report.schedules} requests of pycurl")
