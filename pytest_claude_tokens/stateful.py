"""A Hypothesis state machine that drives the service as a correct client would; a subclass adds its own rules."""

from __future__ import annotations

from typing import Any

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fake_server.policy import Policy
from fake_server.secrecy import discreet
from pytest_claude_tokens.claude.endpoints import MESSAGES_URL, TOKEN_URL
from pytest_claude_tokens.handle.claude_tokens import Account, ClaudeTokens

__all__ = ["CLIENT_ID", "TokenMachine"]

CLIENT_ID = "token-machine"


class TokenMachine(RuleBasedStateMachine):
    """Rules that log in, refresh, call, let tokens expire and let time pass; it passes as it is.

    A subclass sets ``policy``, the policy of the service. ``self.tokens`` is the handle and ``self.http`` an httpx
    client; ``self.pairs`` has each account's current tokens by name, as this client knows them. A subclass that
    replaces :meth:`refresh_tokens` or :meth:`call_once` with the code under test must keep ``self.pairs`` up to date.
    A run fails at the step in which an invariant is broken.
    """

    policy: Policy | str = "anthropic"

    def __init__(self) -> None:
        super().__init__()
        self.tokens: ClaudeTokens = ClaudeTokens(self.policy).open()
        self.http: httpx.Client = httpx.Client()
        self.pairs: dict[str, dict[str, Any]] = {}

    @initialize()
    def log_in_first(self) -> None:
        """Log in one account, so that the other rules have one to draw."""
        self._keep(self.tokens.account())

    @precondition(lambda self: len(self.pairs) < 3)
    @rule(expired=st.booleans())
    def log_in(self, expired: bool) -> None:
        """One more account, perhaps with an access token that has ended already."""
        self._keep(self.tokens.account(expired=expired))

    @rule(data=st.data())
    def refresh(self, data: st.DataObject) -> None:
        """A token request when the access token has ended: a correct client makes no other."""
        name = self._one(data)
        if self.tokens.clock.now() >= self.pairs[name]["expires_at"]:
            self.refresh_tokens(name)

    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        """A call, with a fresh access token where the old one has ended, and once more after a 401."""
        name = self._one(data)
        if self.tokens.clock.now() >= self.pairs[name]["expires_at"]:
            self.refresh_tokens(name)
        if self.call_once(name) == httpx.codes.UNAUTHORIZED:
            self.refresh_tokens(name)
            assert self.call_once(name) == httpx.codes.OK, "a fresh access token was refused"

    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """The service ends an access token before its time."""
        self.tokens.expire(self._one(data))

    @rule(seconds=st.sampled_from([1.0, 600.0, 30000.0]))
    def advance(self, seconds: float) -> None:
        """Time passes: up to a little more than the eight hours of an access token."""
        self.tokens.advance(seconds)

    @invariant()
    def nothing_is_broken(self) -> None:
        """The history so far breaks no invariant."""
        self.tokens.check()

    @discreet
    def refresh_tokens(self, name: str) -> None:
        """Exchange the account's refresh token, and keep what comes back."""
        pair = self.pairs[name]
        body = {"grant_type": "refresh_token", "refresh_token": pair["refresh"], "client_id": CLIENT_ID}
        reply = self.http.post(TOKEN_URL, json=body)
        reply.raise_for_status()
        got = reply.json()
        pair["access"] = got["access_token"]
        pair["refresh"] = got.get("refresh_token", pair["refresh"])
        pair["expires_at"] = self.tokens.clock.now() + got["expires_in"]

    @discreet
    def call_once(self, name: str) -> int:
        """One call with the account's access token; returns the HTTP status."""
        headers = {"authorization": f"Bearer {self.pairs[name]['access']}"}
        body = {"model": "claude-fake", "max_tokens": 8, "messages": [{"role": "user", "content": "Reply: OK"}]}
        return self.http.post(MESSAGES_URL, json=body, headers=headers).status_code

    def teardown(self) -> None:
        """End the run, and judge its history also by the rules that can be broken only at the end."""
        self.http.close()
        self.tokens.conclude()

    def _keep(self, account: Account) -> None:
        self.pairs[account.name] = {
            "access": account.access_token,
            "refresh": account.refresh_token,
            "expires_at": account.expires_at,
        }

    def _one(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.pairs)), label="account")
