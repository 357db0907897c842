"""One service, one client: the fixture in an example, and in a property."""

from __future__ import annotations

import threading

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"
CALL_URL = "https://api.anthropic.com/v1/messages"


class Client:
    """Calls with one login. A 401 says that the access token has ended: refresh, and call once more."""

    def __init__(self, credentials):
        login = credentials["claudeAiOauth"]
        self.access, self.refresh = login["accessToken"], login["refreshToken"]
        self.http, self.lock = httpx.Client(), threading.Lock()

    def call(self, prompt):
        with self.lock:
            if (reply := self.post(prompt)).status_code == 401:
                self.renew()
                reply = self.post(prompt)
        return reply.raise_for_status().json()["content"][0]["text"]

    def post(self, prompt):
        body = {"model": "claude-x", "max_tokens": 64, "messages": [{"role": "user", "content": prompt}]}
        return self.http.post(CALL_URL, json=body, headers={"Authorization": f"Bearer {self.access}"})

    def renew(self):
        body = {"grant_type": "refresh_token", "refresh_token": self.refresh, "client_id": "example"}
        new = self.http.post(TOKEN_URL, json=body).raise_for_status().json()
        self.access, self.refresh = new["access_token"], new["refresh_token"]


def test_an_expired_login_is_refreshed(claude_tokens):
    """The client meets a 401, refreshes, and calls again; nothing else was sent."""
    client = Client(claude_tokens.account(expired=True).credentials)
    assert client.call("Reply: hello") == "hello"
    assert [request.f for request in claude_tokens.history.operations] == ["call", "token", "call"]


@settings(deadline=None, max_examples=25)
@given(happenings=st.lists(st.sampled_from(["call", "token ends", "five hours pass"])))
def test_every_call_is_answered(make_claude_tokens, happenings):
    """Whatever has happened to the access token before; and no rule is broken on the way."""
    with make_claude_tokens() as tokens:
        account = tokens.account()
        client = Client(account.credentials)
        for happening in happenings:
            if happening == "call":
                assert client.call("Reply: hi") == "hi"
            elif happening == "token ends":
                tokens.expire(account)
            else:
                tokens.advance(5 * 3600)
