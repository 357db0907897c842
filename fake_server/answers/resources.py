"""What a call at a resource is answered: by the user's value or function, as an echo, as events, or by MCP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from fake_server.answers.mcp import answer_mcp
from fake_server.genuine import json
from fake_server.limits import OF_THE_CONNECTION, header_refusal, read_json
from fake_server.protocol.wire import Reply
from fake_server.secrecy import safe_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.answers.turn import Turn
    from fake_server.core.authority import AccessToken

__all__ = ["Headers", "Incoming", "Query", "answer_call"]

_JSON = ("content-type", "application/json")
_EVENTS = (("content-type", "text/event-stream"), ("cache-control", "no-store"))
_BODILESS = (204, 205, 304)
_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "x-api-key")


class Query(str):
    """The part of an address after ``?``; ``query["page"]`` is the first value of one parameter."""

    __slots__ = ()

    def __getitem__(self, name: Any) -> str:
        return parse_qs(self, keep_blank_values=True)[name][0] if isinstance(name, str) else super().__getitem__(name)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a parameter, or ``default``."""
        return next(iter(parse_qs(self, keep_blank_values=True).get(name, ())), default)


class Headers(Mapping[str, str]):
    """A request's headers, by names in any case; of one that is repeated, the first."""

    def __init__(self, headers: Iterable[tuple[str, str]]) -> None:
        self._headers: dict[str, str] = {}
        for name, value in headers:
            self._headers.setdefault(name.lower(), value)

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A call, as the user's function sees it: never with a secret. ``account``: whose bearer it presents."""

    method: str
    path: str
    query: Query
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    account: str

    def json(self) -> Any:
        """The body as JSON. Raises ``ValueError``."""
        return read_json(self.body)


def answer_call(turn: Turn, token: AccessToken) -> Reply:
    """The reply to a call with a live bearer."""
    respond = turn.server.service.respond
    if respond is None and turn.server.service.protocol == "mcp":
        return answer_mcp(turn, turn.request)
    if respond == "sse":
        return Reply(200, (b'data: {"ok":true}\n\n', b'event: end\ndata: {"end":true}\n\n'), _EVENTS)
    if respond == "echo":
        return _json(_echoed(_incoming(turn, token)))
    if not callable(respond):
        return _json({"ok": True} if respond is None else respond)
    try:
        return _reply(respond(_incoming(turn, token)))
    except Exception as error:  # noqa: BLE001 - a function of the user's; the client gets a 500, and the history says why
        why = safe_text(f"respond raised {type(error).__name__}: {error}")
        turn.data["respond"] = why
        return _json({"error": "server_error", "error_description": why}, 500)


def _incoming(turn: Turn, token: AccessToken) -> Incoming:
    request = turn.request
    return Incoming(
        method=request.method,
        path=request.path,
        query=Query(request.query),
        headers=Headers((name, value) for name, value in request.headers if name not in _SECRET_HEADERS),
        body=request.body,
        account=token.grant.account,
    )


def _echoed(incoming: Incoming) -> dict[str, Any]:
    try:
        body = incoming.json()
    except ValueError:
        body = incoming.body.decode("utf-8", "replace")
    return {
        "method": incoming.method,
        "path": incoming.path,
        "query": {name: values[0] for name, values in parse_qs(incoming.query, keep_blank_values=True).items()},
        "body": body,
    }


def _json(value: object, status: int = 200, *headers: tuple[str, str]) -> Reply:
    kind = () if any(name == "content-type" for name, _ in headers) else (_JSON,)
    return Reply(status, (json.dumps(value, separators=(",", ":")).encode(),), (*kind, *headers))


def _reply(value: object) -> Reply:
    """The reply that a function returned: ``(status, headers, body)``, or a JSON value.

    The body is text, bytes, a JSON object, or several pieces of text or bytes, which leave one by one. Raises
    ``ValueError`` for what can't be sent; headers of the connection are left out, as the transport sets them.
    """
    if not (isinstance(value, tuple) and len(value) == 3 and isinstance(value[0], int)):
        return _json(value)
    status, given, body = value
    pairs = given.items() if isinstance(given, Mapping) else given or ()
    headers = tuple((str(name).lower(), str(content)) for name, content in pairs)
    if why := next(filter(None, (header_refusal(*pair) for pair in headers)), ""):
        raise ValueError(why)
    if isinstance(status, bool) or not 200 <= status < 600:
        raise ValueError(f"the status {status} is none of a reply: 200 to 599")
    headers = tuple(pair for pair in headers if pair[0] not in OF_THE_CONNECTION)
    if body is None or status in _BODILESS:
        return Reply(status, (b"",), headers)
    if isinstance(body, str | bytes):
        return Reply(status, (_bytes(body),), headers)
    if isinstance(body, Mapping | int | float) or not isinstance(body, Iterable):
        return _json(body, status, *headers)
    pieces = list(body)
    if not pieces or not all(isinstance(piece, str | bytes) for piece in pieces):
        return _json(pieces, status, *headers)
    return Reply(status, tuple(map(_bytes, pieces)), headers)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
