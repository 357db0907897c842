"""A world for the fake claude inside one process: the service, a clock that moves when somebody sleeps, and files."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from fake_server.clock import Clock
from fake_server.effects import Break, Piece, Start, Wait
from fake_server.exchange import Exchange
from fake_server.policy import Policy
from fake_server.protocol.wire import Request
from fake_server.server import Server
from pytest_claude_tokens.claude import telemetry
from pytest_claude_tokens.claude.http import Http, HttpError, Reply, Url
from pytest_claude_tokens.claude.main import main
from pytest_claude_tokens.claude.process import Machine

START = 1_700_000_000.0
TOKEN = "/v1/oauth/token"


class InMemoryHttp:
    """Stands in for the client's HTTP: takes requests straight through the service's exchange.

    ``requests`` are those so far. ``script`` maps a path to callables that are used up one after the other: each gets
    the request and answers in the service's place, or returns ``None`` to let the service answer after it.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests: list[SimpleNamespace] = []
        self.script: dict[str, list[Any]] = {}

    def request(self, method, url, headers=(), body=None, *, timeout, wait=True) -> Reply:
        target = Url(url)
        path = target.path.partition("?")[0]
        names = {name.lower(): value for name, value in headers}
        asked = SimpleNamespace(
            method=method, host=target.host, path=path, url=url, headers=names, body=body, timeout=timeout
        )
        asked.json = json.loads(body) if body else None
        asked.names = [name for name, _ in headers]
        self.requests.append(asked)
        planned = self.script.get(path)
        if planned:
            answer = planned.pop(0)(asked)
            if answer is not None:
                return answer
        if not wait:
            return Reply(0, {}, b"")
        request = Request.parse(method, target.path, tuple(names.items()), body or b"", target.host)
        exchange = Exchange(self.world.server, request, "w")
        started, data = None, b""
        while (effect := exchange.step()) is not None:
            if isinstance(effect, Wait):
                self.world.sleep(effect.seconds or 0.0)
            elif isinstance(effect, Start):
                started = effect
            elif isinstance(effect, Piece):
                data += effect.data
            elif isinstance(effect, Break):
                exchange.abandon("timeout")
                if effect.how == "hang":
                    self.world.sleep(timeout)
                raise HttpError("ETIMEDOUT" if effect.how == "hang" else "ECONNRESET", effect.how)
        assert started is not None
        return Reply(started.status, dict(started.headers), data)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.requests]

    def posts(self) -> list[SimpleNamespace]:
        return [asked for asked in self.requests if asked.path == "/v1/oauth/token"]

    def calls(self) -> list[SimpleNamespace]:
        return [asked for asked in self.requests if asked.path == "/v1/messages"]


class World:
    """One service and one machine; :meth:`run` is one process of the fake claude."""

    def __init__(self, folder: Path, dialect: str = "2.1.123", policy: Policy | None = None) -> None:
        self.folder = folder
        self.seconds = START
        self.naps: list[float] = []
        self.on_sleep: list[Any] = []
        self.server = Server(policy or Policy(), Clock(self.now), self.now, namespace="test")
        self.http = InMemoryHttp(self)
        self.home = folder / "home"
        self.config = self.home / "config"
        self.home.mkdir(parents=True)
        self.environ = {
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
            "CLAUDE_CONFIG_DIR": str(self.config),
            "CLAUDE_TOKENS_DIALECT": dialect,
            "CLAUDE_TOKENS_TELEMETRY": str(folder / "telemetry.jsonl"),
            "HOME": str(self.home),
            "HTTPS_PROXY": "http://127.0.0.1:2",
            "PATH": os.environ["PATH"],
        }

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if seconds:
            self.naps.append(round(seconds, 3))
            for callback in list(self.on_sleep):
                callback()

    def login(self, config: Path | None = None, *, expires: Any = 0, scope: Any = ("user:inference",), **more: Any):
        """A new grant whose credentials are in the store; the access token has ended where ``expires`` is past."""
        grant = self.server.grant("alice")
        entry = {
            "accessToken": grant.access[0].secret,
            "refreshToken": grant.refresh[0].secret,
            "expiresAt": expires,
            "scopes": list(scope) if isinstance(scope, tuple) else scope,
            **more,
        }
        if type(expires) in (int, float) and expires <= self.now() * 1000:
            self.server.expire("alice")
        self.put({"claudeAiOauth": entry}, config)
        return grant

    def put(self, document: Any, config: Path | None = None) -> None:
        place = config or self.config
        place.mkdir(parents=True, exist_ok=True)
        text = document if isinstance(document, str) else json.dumps(document)
        (place / ".credentials.json").write_text(text)

    def stored(self, config: Path | None = None) -> dict[str, Any]:
        return json.loads(((config or self.config) / ".credentials.json").read_text())["claudeAiOauth"]

    def run(self, *arguments: str, stdin: Any = None, http: Any = None, **environ: str | None) -> SimpleNamespace:
        """Run ``claude ARGUMENTS`` (default: one prompt) to its end."""
        full = {**self.environ, **environ}
        out, err = io.StringIO(), io.StringIO()
        machine = Machine(
            {name: value for name, value in full.items() if value is not None},
            io.StringIO("") if stdin is None else stdin,
            out,
            err,
            now=self.now,
            sleep=self.sleep,
            chance=lambda: 0.5,
        )
        self.machine = machine
        status = main(list(arguments or ("-p", "Reply: A")), machine, cast("Http", http or self.http))
        return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())

    def events(self) -> list[str]:
        """The names of the telemetry's events, without their prefix."""
        path = self.environ["CLAUDE_TOKENS_TELEMETRY"]
        return [record.event.removeprefix("tengu_oauth_") for record in telemetry.read(path)]

    def locks(self) -> list[str]:
        """The lock directories that are left anywhere below the world's folder."""
        return sorted(path.name for path in self.folder.rglob("*.lock"))


def answer(status: int, body: Any = b"", **headers: str):
    """A scripted reply."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked: Reply(status, named, data)


def no_reply(code: str = "ECONNRESET"):
    """A scripted failure of the connection."""

    def fail(asked):
        raise HttpError(code, "scripted")

    return fail


def sse(*events: Any) -> bytes:
    """The bytes of a stream; an event is its name, or its name and its data."""
    text = ""
    for event in events:
        name, data = (event, {}) if isinstance(event, str) else event
        text += f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"
    return text.encode()


def outcome(world: World) -> list[int | None]:
    """What the service said to each token request."""
    return [event.status for event in world.server.journal.events if event.f == "token" and event.type != "invoke"]


def refuse(path: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, except for ``path`` (any, if empty), which is refused."""

    def refused(first: Any, *args: Any, **kwargs: Any) -> Any:
        if path in ("", str(first)):
            raise PermissionError(errno.EACCES, "Permission denied")
        return function(first, *args, **kwargs)

    return refused
