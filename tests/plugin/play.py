"""A history made by hand: requests that are begun and ended in a given order, at the real core, on a clock of ours."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

from fake_server import Policy
from fake_server.clock import Clock
from fake_server.effects import Break, Wait
from fake_server.exchange import Exchange
from fake_server.protocol.wire import Request
from fake_server.server import Server
from pytest_claude_tokens.judge.history import History, Operation
from pytest_claude_tokens.report.story import story
from pytest_claude_tokens.violations import Violation


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


def found(play: Play, cls: type[Violation], *exchanges: Exchange, **facts: Any) -> Violation:
    """A violation as the checkers would make it of these requests."""
    operations = [play.operation(exchange) for exchange in exchanges]
    facts.setdefault("seq", operations[-1].opened if operations else 1)
    facts.setdefault("cause", "as the checker says")
    return cls("headline", operations=operations, **facts)


def told(play: Play, cls: type[Violation], *exchanges: Exchange, facts: Any = None, **options: Any) -> str:
    """The story of such a violation, in a test. ``facts``: what is known of each request, by its number."""
    return story(play.history.with_facts(facts or {}), found(play, cls, *exchanges), in_test=True, **options)


def expect(text: str) -> str:
    """A block of text as it is printed, without its indentation here."""
    return dedent(text).strip("\n")


def spend_twice(play: Play, *, overlap: bool = False, actor: str = "w1") -> tuple[Exchange, Exchange]:
    """One refresh token in two requests, one after the other or together."""
    token = play.login().refresh[0].secret
    first = play.refresh("w0", token)
    if not overlap:
        play.end(first)
    again = play.refresh(actor, token)
    if overlap:
        play.end(first)
    play.end(again)
    return first, again
