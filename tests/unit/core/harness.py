"""A transport for tests of the core: one hand on the clock, every effect in sight, no I/O."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from fake_server.clock import Clock
from fake_server.effects import Break, Effect, Piece, Start, Wait
from fake_server.events import Event
from fake_server.exchange import Exchange
from fake_server.policy import Policy
from fake_server.protocol.wire import Request
from fake_server.server import Server

START = 1_700_000_000.0
CLIENT = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
JSON = (("content-type", "application/json"),)
FORM = (("content-type", "application/x-www-form-urlencoded"),)


@dataclass
class Answer:
    """What a client has got, and how it came."""

    effects: list[Effect] = field(default_factory=list)

    @property
    def start(self) -> Start:
        (start,) = (effect for effect in self.effects if isinstance(effect, Start))
        return start

    @property
    def status(self) -> int:
        return self.start.status

    @property
    def pieces(self) -> list[bytes]:
        return [effect.data for effect in self.effects if isinstance(effect, Piece)]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def waits(self) -> list[str]:
        return [effect.why for effect in self.effects if isinstance(effect, Wait)]

    @property
    def broke(self) -> Break | None:
        return next((effect for effect in self.effects if isinstance(effect, Break)), None)

    def header(self, name: str) -> str | None:
        return dict(self.start.headers).get(name)

    @property
    def header_names(self) -> set[str]:
        return {name for name, _ in self.start.headers}


class World:
    """One server, and the time that it lives in. ``lines`` is its journal as it would be on disk."""

    def __init__(self, policy: Policy | str = "anthropic", namespace: str = "test", **changes: Any) -> None:
        chosen = Policy.preset(policy) if isinstance(policy, str) else policy
        self.time = START
        self.sink = io.StringIO()
        self.server = Server(
            chosen.but(**changes),
            Clock(lambda: self.time, kind="virtual"),
            lambda: self.time,
            namespace=namespace,
            sink=self.sink,
        )

    @property
    def lines(self) -> list[str]:
        return self.sink.getvalue().splitlines()

    @property
    def events(self) -> list[Event]:
        return self.server.journal.events

    def of(self, op: int | None) -> list[Event]:
        """The events of one operation, its notes included."""
        return [event for event in self.events if event.op == op]

    def last(self) -> Event:
        """The last event that ended an operation."""
        return next(event for event in reversed(self.events) if event.type in ("ok", "fail", "info"))

    def begin(self, request: Request, actor: str = "w0") -> Exchange:
        return Exchange(self.server, request, actor)

    def run(self, exchange: Exchange, answer: Answer | None = None) -> Answer:
        """To the end, or to a hang; time passes as each wait asks for it."""
        answer = answer or Answer()
        while (effect := exchange.step()) is not None:
            answer.effects.append(effect)
            if isinstance(effect, Wait):
                self.time += effect.seconds or 0.0
            elif isinstance(effect, Break) and effect.how == "hang":
                return answer
        return answer

    def send(self, request: Request, actor: str = "w0") -> Answer:
        return self.run(self.begin(request, actor), Answer())

    def refresh(self, token: str, actor: str = "w0", *, form: bool = False, **extra: Any) -> Answer:
        return self.send(refresh(token, form=form, **extra), actor)

    def login(self, account: str = "alice", **options: Any) -> tuple[str, str]:
        """The access token and the refresh token (``""`` for a setup-token) of a new grant."""
        grant = self.server.grant(account, **options)
        return grant.access[0].secret, grant.refresh[0].secret if grant.refresh else ""

    def call(self, bearer: str | None, actor: str = "w0", **body: Any) -> Answer:
        return self.send(call(bearer, **body), actor)

    def get(self, path: str, bearer: str | None = None, method: str = "GET") -> Answer:
        return self.send(Request(method, path, authorization(bearer)))


def authorization(bearer: str | None) -> tuple[tuple[str, str], ...]:
    return () if bearer is None else (("authorization", f"Bearer {bearer}"),)


def token_request(body: dict[str, Any] | bytes, *, form: bool = False, path: str = "/v1/oauth/token") -> Request:
    if isinstance(body, dict):
        body = urlencode(body).encode() if form else json.dumps(body).encode()
    return Request("POST", path, FORM if form else JSON, body)


def refresh(token: str, *, form: bool = False, **extra: Any) -> Request:
    body = {"grant_type": "refresh_token", "refresh_token": token, "client_id": CLIENT, **extra}
    return token_request(body, form=form)


def code(value: str, **extra: Any) -> Request:
    body = {
        "grant_type": "authorization_code",
        "code": value,
        "redirect_uri": "http://localhost:1/callback",
        "client_id": CLIENT,
        "code_verifier": "v" * 43,
        "state": "s",
        **extra,
    }
    return token_request(body)


def call(bearer: str | None, **body: Any) -> Request:
    headers = (*JSON, *authorization(bearer))
    return Request("POST", "/v1/messages", headers, json.dumps({"model": "m", "messages": [], **body}).encode())
