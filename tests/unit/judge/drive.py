"""The real service, driven step by step: what the judge must make of true histories."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fake_server.clock import Clock
from fake_server.effects import Wait
from fake_server.exchange import Exchange
from fake_server.protocol.wire import Request
from fake_server.server import Server
from pytest_claude_tokens.judge.history import History

if TYPE_CHECKING:
    from fake_server.core.authority import Grant
    from fake_server.policy import Policy


class Service:
    """A server on a clock that the test moves, with what a client needs to talk to it."""

    def __init__(self, policy: Policy, **header: Any) -> None:
        self.now = 1_000_000.0
        self.server = Server(
            policy, Clock(lambda: self.now, kind="virtual"), lambda: self.now, namespace="judge", header=header
        )

    @property
    def history(self) -> History:
        return History(self.server.journal.header, self.server.journal.events)

    def login(self, account: str = "work", **how: Any) -> Grant:
        return self.server.grant(account, **how)

    def token(self, actor: str, secret: str, **more: Any) -> Exchange:
        """A token request that has arrived."""
        body = {"grant_type": "refresh_token", "refresh_token": secret, "client_id": "c", **more}
        headers = (("content-type", "application/json"),)
        return self._arrived(Request("POST", "/v1/oauth/token", headers, json.dumps(body).encode()), actor)

    def call(self, actor: str, secret: str, *, stream: bool = False) -> Exchange:
        """A call that has arrived."""
        body = json.dumps({"stream": stream}).encode()
        return self._arrived(Request("POST", "/v1/messages", (("authorization", f"Bearer {secret}"),), body), actor)

    def bare(self, actor: str) -> Exchange:
        """A call without any credential that has arrived."""
        return self._arrived(Request("POST", "/v1/messages", (), b"{}"), actor)

    def other(self, actor: str, secret: str, path: str = "/api/oauth/profile") -> Exchange:
        """A request to a small endpoint that has arrived."""
        return self._arrived(Request("GET", path, (("authorization", f"Bearer {secret}"),)), actor)

    def _arrived(self, request: Request, actor: str) -> Exchange:
        exchange = Exchange(self.server, request, actor)
        exchange.step()
        return exchange

    def until(self, exchange: Exchange, why: str) -> None:
        """Go on until ``exchange`` waits for ``why``."""
        effect = exchange.step()
        while not (isinstance(effect, Wait) and effect.why == why):
            self._pass(effect)
            effect = exchange.step()

    def finish(self, exchange: Exchange) -> int | None:
        """Go on to the end; the status that the client was told."""
        while (effect := exchange.step()) is not None:
            self._pass(effect)
        last = self.server.journal.events[-1]
        return last.status

    def _pass(self, effect: object) -> None:
        if isinstance(effect, Wait) and effect.seconds:
            self.now += effect.seconds

    def end(self, stores: dict[str, list[str]] | None = None) -> None:
        """Write the note that a run ends with."""
        now = self.server.clock.now()
        grants = {
            grant.name: {
                "account": grant.account,
                "setup_token": grant.setup_token,
                "accepts": list(self.server.authority.accepted(grant, now)),
                "death": grant.died(now),
                "stores": (stores or {}).get(grant.name, []),
            }
            for grant in self.server.authority.grants
        }
        self.server.journal.note("end", grants=grants)
