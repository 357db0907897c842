"""The replies of the service, byte for byte where public records show them.

Sources: errors and headers that users and clients have published (each has its issue beside it), RFC 6749 sections 5.1
and 5.2 for the token endpoint, and the SSE events of the Messages API.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fake_server.genuine import json, uuid
from fake_server.protocol.errors import error_envelope
from fake_server.protocol.wire import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.core.authority import AccessToken, Grant
    from fake_server.faults import Fault
    from fake_server.protocol.wire import Call

__all__ = ["AT_ONCE", "Replies", "of_the_users"]

AT_ONCE = "Multiple concurrent requests using the same token. Please retry"
"""What a policy that answers one of two says to the other (Ory Hydra)."""

_JSON = ("content-type", "application/json")
_NO_STORE = (("cache-control", "no-store"), ("pragma", "no-cache"))  # RFC 6749 section 5.1

_INVALID_GRANT = b'{"error": "invalid_grant", "error_description": "Refresh token not found or invalid"}'
_REASONS = {"expired": "Refresh token expired", "revoked": "Refresh token revoked"}
_GATEWAY_INVALID_GRANT = b'{"error":"invalid_grant"}'

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_MESSAGES = {
    401: "Invalid authentication credentials",  # claude-code#54443, #58066, #61912
    404: "Not Found",  # claude-code#27933
    429: "This request would exceed your account's rate limit. Please try again later.",
    529: "Overloaded",
}
_BEARER_MESSAGES = {
    # claude-code#10712, #93879, #54305
    "expired": "OAuth token has expired. Please obtain a new token or refresh your existing token.",
    "revoked": "OAuth access token has been revoked.",
    "unknown": "Invalid bearer token",
}
_WINDOWS = {"five_hour": 18000, "seven_day": 604800}
"""Seconds after which each usage window restarts."""
_HTML = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"


_encode: Callable[[object], str] = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _dump(value: object) -> bytes:
    # A lone surrogate, which JSON allows in a model's name, can't be encoded.
    return _encode(value).encode(errors="replace")


@functools.lru_cache(maxsize=256)  # each run of a search has the same accounts
def _uuid(*words: str) -> str:
    return str(uuid.UUID(bytes=hashlib.blake2b("/".join(words).encode(), digest_size=16).digest(), version=4))


class Replies:
    """Builds replies; ``namespace`` makes their ids stable, and distinct from those of other services."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def request_id(self, op: int) -> str:
        """The request id, ``req_011C…``, of operation ``op``."""
        digest = hashlib.blake2b(f"{self._namespace} {op}".encode(), digest_size=10).hexdigest()
        return f"req_011C{digest[:20]}"

    def json(
        self, op: int, value: object, status: int = 200, *headers: tuple[str, str], refusal: str | None = None
    ) -> Reply:
        """A JSON reply with its ``request-id``; ``refusal``: the code of an OAuth error."""
        body = value if isinstance(value, bytes) else _dump(value)
        return Reply(status, (body,), (_JSON, ("request-id", self.request_id(op)), *headers), refusal)

    def error(
        self, op: int, status: int, message: str | None = None, *headers: tuple[str, str], **details: Any
    ) -> Reply:
        """An error in the envelope that all endpoints except the token endpoint use."""
        kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        text = (
            message or _MESSAGES.get(status) or ("Internal server error" if status >= 500 else "Invalid request format")
        )
        body = error_envelope(kind, text, details, request_id=self.request_id(op))
        return self.json(op, body, status, *headers)

    # The token endpoint.

    def token(
        self, op: int, access: AccessToken, refresh: str | None, *, scope: str, life: float, deadline: float | None
    ) -> Reply:
        """The reply that brings tokens. ``deadline``: seconds that the refresh token has, told only where it is new."""
        body = self.token_body(access, refresh, scope=scope, life=life, deadline=deadline)
        return self.json(op, body, 200, *_NO_STORE)

    def token_body(
        self, access: AccessToken, refresh: str | None, *, scope: str, life: float, deadline: float | None = None
    ) -> dict[str, Any]:
        """RFC 6749 section 5.1, with the vendor's ``account`` and ``organization``."""
        body: dict[str, Any] = {
            "token_type": "Bearer",
            "access_token": access.secret,
            "expires_in": int(life) if life == int(life) else life,
        }
        if refresh is not None:
            body["refresh_token"] = refresh
        if deadline is not None:
            body["refresh_token_expires_in"] = int(deadline)
        account, email, organization = self._identity(access.grant.account)
        body["scope"] = scope
        body["organization"] = {"uuid": organization, "name": f"{access.grant.account}'s organization"}
        body["account"] = {"uuid": account, "email_address": email}
        return body

    def invalid_grant(self, op: int, reason: str, dialect: str) -> Reply:
        """The reply to a dead token: 400 and 85 bytes (charmbracelet/crush#1776); a gateway: 401 and the bare code."""
        if dialect == "gateway":
            return self.json(op, _GATEWAY_INVALID_GRANT, 401, *_NO_STORE, refusal="invalid_grant")
        text = _REASONS.get(reason)
        body = _INVALID_GRANT
        if text is not None:
            body = f'{{"error": "invalid_grant", "error_description": "{text}"}}'.encode()
        return self.json(op, body, 400, *_NO_STORE, refusal="invalid_grant")

    def oauth_error(self, op: int, error: str, description: str = "") -> Reply:
        """RFC 6749 section 5.2; ``format`` is the vendor's envelope for a body that it cannot read."""
        if error == "format":
            return replace(self._bare(op, 400, "Invalid request format"), error="invalid_request")
        details = {"error_description": description} if description else {}
        return self.json(op, {"error": error, **details}, 400, *_NO_STORE, refusal=error)

    def _bare(self, op: int, status: int, message: str, *headers: tuple[str, str]) -> Reply:
        """The envelope of the token endpoint, without ``request_id``."""
        return self.json(op, error_envelope(_TYPES[status], message), status, *headers)

    # The Messages API and other endpoints.

    def message(self, op: int, call: Call, now: float) -> Reply:
        """The model's answer, streamed as SSE in two pieces or whole, with the usage headers of a subscription."""
        headers = (("request-id", self.request_id(op)), *self._usage_headers(now, "allowed"))
        usage = {"input_tokens": 8, "output_tokens": max(1, len(call.text.split()))}
        message: dict[str, Any] = {
            "id": f"msg_011C{self.request_id(op)[8:]}",
            "type": "message",
            "role": "assistant",
            "model": call.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        if not call.stream:
            message.update(content=[{"type": "text", "text": call.text}], stop_reason="end_turn")
            return Reply(200, (_dump(message),), (_JSON, *headers))
        delta = {"type": "text_delta", "text": call.text}
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        first = (
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": delta},
        )
        rest = (
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": usage},
            {"type": "message_stop"},
        )
        return Reply(200, (_sse(first), _sse(rest)), (("content-type", "text/event-stream; charset=utf-8"), *headers))

    def bad_bearer(self, op: int, state: str, *, presented: bool) -> Reply:
        """401, with the message that users have seen for each state of a bearer."""
        return self.error(op, 401, _BEARER_MESSAGES[state] if presented else None)

    def missing_scope(self, op: int, scope: str) -> Reply:
        """403 for a token without ``scope``, such as a setup-token at the profile (claude-code#13334)."""
        message = f"OAuth token does not meet scope requirement {scope}"
        return self.error(op, 403, message, error_visibility="user_facing")

    def other(self, op: int, name: str, grant: Grant | None, now: float) -> Reply:
        """The replies of the minor endpoints."""
        if name == "profile" and grant is not None:
            return self.json(op, self._profile(grant.account))
        if name == "usage":
            return self.json(op, _usage(now))
        if name == "models":
            return self.json(op, {"data": [{"id": "claude-fake", "display_name": "Claude (fake)", "type": "model"}]})
        if name == "count_tokens":
            return self.json(op, {"input_tokens": 8})
        if name in _CONSTANT:
            return self.json(op, _CONSTANT[name])
        return self.error(op, 404)

    # Injected faults.

    def fault(self, op: int, fault: Fault, f: str, now: float) -> Reply:
        """The reply of a fault that replaces the service's."""
        if fault.kind == "html":
            return Reply(fault.code or 403, (_HTML,), (("content-type", "text/html; charset=UTF-8"),))
        if fault.kind == "quota":
            wait = ("retry-after", str(_WINDOWS[fault.window]))
            return self.error(op, 429, None, *self._usage_headers(now, "rejected", fault.window), wait)
        status = fault.code or 500
        retry = () if fault.seconds is None else (("retry-after", f"{fault.seconds:g}"),)
        return of_the_users(self._of_a_status(op, status, f, retry), fault)

    def _of_a_status(self, op: int, status: int, f: str, retry: tuple[tuple[str, str], ...]) -> Reply:
        """What the service itself says to such a status."""
        if f == "token" and status == 429:  # anomalyco/opencode#18329: no outer "type", often no retry-after
            error = {"type": "rate_limit_error", "message": "Rate limited. Please try again later."}
            return self.json(op, {"error": error}, 429, *retry)
        if f == "token" and status == 404:
            return self._bare(op, 404, _MESSAGES[404], *retry)
        return self.error(op, status, None, *retry)

    def _identity(self, account: str) -> tuple[str, str, str]:
        return _uuid(account, "account"), f"{account}@fake.invalid", _uuid(account, "organization")

    def _profile(self, account: str) -> dict[str, Any]:
        identity, email, organization = self._identity(account)
        return {
            "account": {
                "uuid": identity,
                "email": email,
                "full_name": account,
                "display_name": account,
                "has_claude_max": True,
                "has_claude_pro": False,
            },
            "organization": {
                "uuid": organization,
                "name": f"{account}'s organization",
                "organization_type": "claude_max",
                "rate_limit_tier": "default_claude_max_20x",
                "billing_type": "stripe_subscription",
                "seat_tier": None,
                "subscription_status": "active",
                "has_extra_usage_enabled": False,
            },
        }

    def _usage_headers(self, now: float, status: str, claim: str = "five_hour") -> tuple[tuple[str, str], ...]:
        prefix = "anthropic-ratelimit-unified"
        resets = {name: str(int(now) + seconds) for name, seconds in _WINDOWS.items()}
        headers = [
            (f"{prefix}-status", status),
            (f"{prefix}-reset", resets[claim]),
            (f"{prefix}-representative-claim", claim),
        ]
        for short, name in (("5h", "five_hour"), ("7d", "seven_day")):
            rejected = status == "rejected" and name == claim
            headers += [
                (f"{prefix}-{short}-status", "rejected" if rejected else "allowed"),
                (f"{prefix}-{short}-utilization", "1.0" if rejected else "0.1"),
                (f"{prefix}-{short}-reset", resets[name]),
            ]
        return tuple(headers)


def _content_type(body: str) -> str:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return "text/html; charset=UTF-8" if body.lstrip().startswith("<") else "text/plain; charset=UTF-8"
    return "application/json"


def of_the_users(reply: Reply, fault: Fault) -> Reply:
    """``reply`` with the body and the headers that the user has given to ``fault``, if any."""
    if fault.body is None and not fault.headers:
        return reply
    given = fault.headers
    pieces = reply.pieces
    if fault.body is not None:
        pieces = (fault.body.encode(errors="replace"),)
        given = (("content-type", _content_type(fault.body)), *given)
    names = {name.lower(): (name.lower(), value) for name, value in given}  # the last one of a name holds
    kept = [pair for pair in reply.headers if pair[0] not in names]
    return Reply(reply.status, pieces, (*kept, *names.values()))


def _sse(events: tuple[dict[str, Any], ...]) -> bytes:
    """The events as SSE, each with its ``event:`` line: without it the CLI falls back to a second request."""
    return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _dump(event)) for event in events)


def _usage(now: float) -> dict[str, Any]:
    """The reply of the usage endpoint. Its shares are in per cent; those in the headers are fractions of 1."""
    windows = {name: _iso(now + seconds) for name, seconds in _WINDOWS.items()}
    nothing = {"limit_dollars": None, "used_dollars": None, "locked_reason": None}
    usage: dict[str, Any] = {name: {"utilization": 10.0, "resets_at": at, **nothing} for name, at in windows.items()}
    limit = {"percent": 10, "severity": "normal", "scope": None, "is_active": True}
    usage["seven_day_opus"] = usage["seven_day_sonnet"] = None
    usage["limits"] = [
        {"kind": "session", "group": "session", "resets_at": windows["five_hour"], **limit},
        {"kind": "weekly_all", "group": "weekly", "resets_at": windows["seven_day"], **limit},
    ]
    return usage


def _iso(posix: float) -> str:
    return datetime.fromtimestamp(int(posix), tz=UTC).isoformat()


_CONSTANT: dict[str, Any] = {
    "hello": {"message": "hello"},
    "roles": {"roles": []},
    "client_data": {"client_data": {}},
    "revoke": {},
}
