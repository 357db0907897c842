"""The admin endpoints of a running service, under ``/_claude_tokens/``, on loopback only.

* ``GET /_claude_tokens/history``: the history so far, as JSON lines.
* ``GET /_claude_tokens/verdict``: the verdict so far.
* ``GET /_claude_tokens/endpoints``: the endpoints and resources of the service, with their methods and paths.
* ``POST /_claude_tokens/accounts``: log an account in. All members are optional: ``name``, ``expired``,
  ``expires_in`` (seconds), ``setup_token``. The reply has its name, tokens, client, credentials and environment.
* ``POST /_claude_tokens/faults``: plan a fault. ``target`` (``token``, ``call`` or another endpoint) and ``fault``
  (``lost-reply``, ``reset``, ``timeout``, ``garbage``, ``truncated``, ``burst``, ``moved``; ``status`` and ``html``
  with ``code``, ``status`` also with ``retry_after``, ``after_commit``, ``body`` and ``headers``; ``delay`` with
  ``seconds`` and ``after_commit``; ``stall`` with ``seconds`` and ``part``; ``quota`` with ``window``), and optionally
  ``count``, ``account`` and ``worker``.

These requests are not operations of the service: the journal has their effects, such as a login, but not the requests
themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_args

from fake_server.core.journal import promise
from fake_server.faults import Fault, FaultKind
from fake_server.hosts import is_loopback
from fake_server.limits import checked_count, checked_seconds, refuse_constant
from fake_server.protocol.errors import error_envelope
from fake_server.secrecy import safe_text, shown
from fake_server.transports.loopback.host import Local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fake_server.events import Event
    from fake_server.protocol.wire import Request
    from fake_server.server import Server

__all__ = ["PREFIX", "Admin"]

PREFIX = "/_claude_tokens/"

_EVENTS_OF_A_PIECE = 100
"""Events of a history that are sent at a time: some 30 kB."""


class Admin:
    """Answers admin requests.

    ``verdict`` judges the history so far; ``login`` logs an account in and returns what its client needs. Both return
    JSON, and ``login`` raises ``ValueError`` for invalid arguments.
    """

    def __init__(
        self, server: Server, verdict: Callable[[], Mapping[str, Any]], login: Callable[..., Mapping[str, Any]]
    ) -> None:
        self._server = server
        self._verdict = verdict
        self._login = login
        self._last: tuple[int, Local] | None = None
        self._answers: dict[str, tuple[str, Callable[[Request], Local]]] = {
            "history": ("GET", self._history),
            "verdict": ("GET", self._judged),
            "endpoints": ("GET", lambda _: _json(self._server.endpoints())),
            "accounts": ("POST", self._account),
            "faults": ("POST", self._fault),
        }

    def __call__(self, request: Request) -> Local | None:
        """The reply, or ``None`` if the request is for the service."""
        if not request.path.startswith(PREFIX):
            return None
        if not is_loopback(request.host):  # DNS rebinding: a web page's own host name points to this address
            return _error(403, "this is answered on loopback only")
        method, answer = self._answers.get(request.path.removeprefix(PREFIX), ("", None))
        if answer is None:
            return _error(404, f"there is {', '.join(PREFIX + name for name in self._answers)}")
        if request.method != method:
            return _error(405, f"this is for {method}")
        try:
            return answer(request)
        except ValueError as error:
            return _error(400, str(error))
        except OSError as error:
            return _error(500, f"the service can't do that: {error.strerror or error}")

    def _history(self, _: Request) -> Local:
        return Local(200, self._pieces(len(self._server.journal.events)), "application/x-ndjson")

    def _pieces(self, count: int) -> Iterator[bytes]:
        """The header and the first ``count`` events as lines: a long history is never held in memory as text."""
        journal = self._server.journal  # its events are only appended to
        yield _lines([promise(journal.header)])
        for begin in range(0, count, _EVENTS_OF_A_PIECE):
            yield _lines(journal.events[begin : min(begin + _EVENTS_OF_A_PIECE, count)])

    def _judged(self, _: Request) -> Local:
        """The verdict so far. Judged once for each length of the history: a long one takes a while."""
        count = len(self._server.journal.events)
        if self._last is None or self._last[0] != count:
            self._last = count, _json(self._verdict())
        return self._last[1]

    def _account(self, request: Request) -> Local:
        return _json(self._login(**_members(request.body, _ACCOUNT)))

    def _fault(self, request: Request) -> Local:
        asked = _members(request.body, _FAULT)
        planned = {name: asked.pop(name) for name in ("target", "count", "account", "worker") if name in asked}
        if "fault" not in asked:
            raise ValueError(f'"fault" is missing: one of {", ".join(get_args(FaultKind))}')
        kind = asked.pop("fault").lower().replace("_", "-")  # also accept the Python name: LOST_REPLY is lost-reply
        fault = Fault.from_dict({"kind": kind, **asked})
        with self._server.lock:
            if "account" in planned and not self._server.authority.grants_of(planned["account"]):
                known = dict.fromkeys(grant.account for grant in self._server.authority.grants)
                raise ValueError(
                    f"account: no account is named {shown(planned['account'])}; "
                    f"there are: {', '.join(known) or 'none so far'}"
                )
            self._server.faults.add(planned.pop("target", "token"), fault, **planned)
        return _json({"fault": str(fault)})


def _members(body: bytes, known: Mapping[str, Callable[[str, Any], Any]]) -> dict[str, Any]:
    """The members of a JSON object, each checked; an empty body counts as an empty object. Raises ``ValueError``."""
    try:
        value = json.loads(body or b"{}", object_pairs_hook=_unique, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("a JSON object is expected")
    for name in value:
        if name not in known:
            raise ValueError(f"{shown(name)} is not known here; there are {', '.join(known)}")
    return {name: known[name](name, member) for name, member in value.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name}={shown(value)}: must be a text")
    return value


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)}: must be true or false")
    return value


def _texts(name: str, value: Any) -> dict[str, str]:
    if not (isinstance(value, dict) and all(isinstance(text, str) for text in value.values())):
        raise ValueError(f"{name}={shown(value)}: must be an object of texts")
    return value


def _any(_: str, value: Any) -> Any:
    """For what is checked together with the rest of the fault."""
    return value


_ACCOUNT: Mapping[str, Callable[[str, Any], Any]] = {
    "name": _text,
    "expired": _truth,
    "expires_in": checked_seconds,
    "setup_token": _truth,
}
_FAULT: Mapping[str, Callable[[str, Any], Any]] = {
    "target": _text,
    "fault": _text,
    "count": checked_count,
    "account": _text,
    "worker": _text,
    "code": _any,
    "retry_after": checked_seconds,
    "seconds": checked_seconds,
    "after_commit": _truth,
    "window": _text,
    "part": _text,
    "body": _any,
    "headers": _texts,
}


def _lines(events: Iterable[Event]) -> bytes:
    return "".join(event.to_json() + "\n" for event in events).encode()


def _json(value: object, status: int = 200) -> Local:
    return Local(status, json.dumps(value, separators=(",", ":")).encode())


def _error(status: int, text: str) -> Local:
    return _json(error_envelope("invalid_request_error", safe_text(text)), status)
