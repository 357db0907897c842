"""A history made by hand: requests that are begun and ended in a given order, at the real core, on a clock of ours."""

from __future__ import annotations

import json
from typing import Any

from fake_server import Policy
from fake_server.clock import Clock
from fake_server.effects import Break, Wait
from fake_server.exchange import Exchange
from fake_server.protocol.wire import Request
from fake_server.server import Server
from pytest_claude_tokens.judge.history import History, Operation


class Play:
    """One service; `begin` and `end` are the two halves of a request, each a thousandth of a second after the last."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.now = 1000.0
        clock = Clock(lambda: self.now, kind="virtual")
        self.server = Server(policy or Policy(), clock, lambda: self.now, namespace="play")

    def login(self, account: str = "work") -> Any:
        return self.server.grant(account)

    def refresh(self, actor: str, token: str) -> Exchange:
        body = json.dumps({"grant_type": "refresh_token", "refresh_token": token, "client_id": "c"}).encode()
        headers = (("content-type", "application/json"),)
        return self.begin(actor, Request("POST", "/v1/oauth/token", headers, body))

    def call(self, actor: str, bearer: str) -> Exchange:
        return self.begin(actor, Request("POST", "/v1/messages", (("authorization", f"Bearer {bearer}"),), b"{}"))

    def begin(self, actor: str, request: Request) -> Exchange:
        exchange = Exchange(self.server, request, actor)
        assert exchange.step() == Wait("request")
        self.now += 0.001
        return exchange

    def end(self, exchange: Exchange) -> None:
        while (effect := exchange.step()) is not None and not isinstance(effect, Break):
            if isinstance(effect, Wait):
                self.now += effect.seconds or 0.0
        self.now += 0.001

    def queue(self, exchange: Exchange) -> None:
        """Go on until the call waits in the gate."""
        effect = exchange.step()
        assert isinstance(effect, Wait)
        assert effect.why == "gate"

    @property
    def history(self) -> History:
        return History(self.server.journal.header, self.server.journal.events)

    def operation(self, exchange: Exchange) -> Operation:
        return next(op for op in self.history.operations if op.op == exchange.op)
