"""The admin endpoints of a running service, under ``/_claude_tokens/``, on loopback only.

* ``GET /_claude_tokens/history``: the history so far, as JSON lines.
* ``GET /_claude_tokens/verdict``: the verdict so far.
* ``POST /_claude_tokens/accounts``: log an account in. All members are optional: ``name``, ``expired``,
  ``expires_in`` (seconds), ``setup_token``. The reply has its name, credentials and environment.
* ``POST /_claude_tokens/faults``: plan a fault. ``target`` (``token`` or ``call``) and ``fault``
  (``lost-reply``, ``reset``, ``timeout``, ``garbage``, ``truncated``, ``burst``, ``moved``; ``status`` and ``html``
  with ``code``, ``status`` also with ``retry_after``, ``after_commit``, ``body`` and ``headers``; ``delay`` with
  ``seconds`` and ``after_commit``; ``stall`` with ``seconds`` and ``part``; ``quota`` with ``window``), and optionally
  ``count``, ``account`` and ``worker``.

These requests are not operations of the service: the journal has their effects, such as a login, but not the requests
themselves.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fake_server.core.journal import promise
from fake_server.faults import Fault
from fake_server.hosts import is_loopback
from fake_server.protocol.errors import error_envelope
from fake_server.secrecy import safe_text, shown
from fake_server.transports.loopback.host import Local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fake_server.events import Event
    from fake_server.protocol.wire import Request
    from fake_server.server import Server

__all__ = ["PREFIX", "Admin"]

PREFIX = "/_claude_tokens/"

_EVENTS_OF_A_PIECE = 100
"""Events of a history that are sent at a time: some 30 kB."""

_ACCOUNT = {"name": str, "expired": bool, "expires_in": (int, float), "setup_token": bool}
_FAULT = {
    "target": str,
    "fault": str,
    "count": int,
    "account": str,
    "worker": str,
    "code": int,
    "retry_after": (int, float),
    "seconds": (int, float),
    "after_commit": bool,
    "window": str,
    "part": str,
    "body": (dict, list, str),
    "headers": dict,
}


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
        except (TypeError, ValueError) as error:
            return _error(400, str(error))

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
        kind = asked.pop("fault", "").lower().replace("_", "-")  # also accept the Python name: LOST_REPLY is lost-reply
        fault = Fault.from_dict({"kind": kind, **asked})
        with self._server.lock:
            self._server.faults.add(planned.pop("target", "token"), fault, **planned)
        return _json({"fault": str(fault)})


def _members(body: bytes, known: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a JSON object, checked for known names and types; an empty body counts as an empty object."""
    value = json.loads(body or b"{}")
    if not isinstance(value, dict):
        raise ValueError("a JSON object is expected")
    for name, member in value.items():
        if name not in known:
            raise ValueError(f"{shown(name)} is not known here; there are {', '.join(known)}")
        if not isinstance(member, known[name]) or (isinstance(member, bool) and known[name] is not bool):
            raise ValueError(f"{name!r} has a value of the wrong type")
    return value


def _lines(events: Iterable[Event]) -> bytes:
    return "".join(event.to_json() + "\n" for event in events).encode()


def _json(value: object, status: int = 200) -> Local:
    return Local(status, json.dumps(value, separators=(",", ":")).encode())


def _error(status: int, text: str) -> Local:
    return _json(error_envelope("invalid_request_error", safe_text(text)), status)
