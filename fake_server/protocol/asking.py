"""Reads a request to a service that speaks the standards: which endpoint, with which parameters, by which client.

A request that is refused before a token in it was looked at carries its refusal (RFC 6749 section 5.2).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, unquote_plus

from fake_server.jose import claims_of, verifies
from fake_server.limits import read_json
from fake_server.protocol.routes import Route, routes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fake_server.core.clients import Client, Clients
    from fake_server.protocol.wire import Request
    from fake_server.service import Service

__all__ = ["ASSERTION", "DEVICE_GRANT", "GRANTS", "Asked", "Asking", "Refusal"]

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
GRANTS = ("authorization_code", "refresh_token", "client_credentials", DEVICE_GRANT)
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_REPEATABLE = ("resource", "audience")  # RFC 8707 section 2
_NEEDS = {"authorization_code": "code", "refresh_token": "refresh_token", DEVICE_GRANT: "device_code"}
_BY_CLIENTS = ("token", "revoke", "introspect", "device")
_REDIRECTED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s#]+")
_OPEN = {
    "authorize": "an authorization request",
    "verify": "a device's approval",
    "register": "a registration",
    "device": "a device's request",
    "keys": "metadata",
    "server-metadata": "metadata",
    "openid-metadata": "metadata",
    "resource-metadata": "metadata",
}
"""Requests that present no token: nothing can be said of who sends them when."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused. ``challenge``: the scheme of the ``WWW-Authenticate`` that goes with it."""

    error: str
    text: str = ""
    status: int = 400
    challenge: str = ""
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, read. ``target``: the name by which a fault strikes it; ``client``: who sent it, if that is known.

    ``unjudged``: why nothing can be concluded from it; empty for a request that the judge takes into account.
    """

    f: Literal["token", "call", "other"]
    route: Route
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    encoding: str | None = None
    client: Client | None = None
    refusal: Refusal | None = None
    unjudged: str = ""

    @property
    def target(self) -> str:
        """The name of the endpoint, for faults."""
        name = self.route.name
        return "metadata" if name in _OPEN and _OPEN[name] == "metadata" else name

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self.route.name

    @property
    def grant_type(self) -> str:
        """The grant type of a token request, if it is one that there is."""
        grant = self.text("grant_type")
        return grant if grant in GRANTS else ""

    @property
    def refresh_token(self) -> str:
        """The refresh token that is presented or named."""
        if self.f == "token":
            return self.text("refresh_token")
        return self.text("token") if self.name in ("revoke", "introspect") else ""

    def text(self, name: str) -> str:
        """The parameter of that name; empty if it is missing or no text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    def words(self, name: str) -> list[str]:
        """The values of a parameter that may be repeated."""
        value = self.fields.get(name)
        return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


class Asking:
    """Reads requests to one service. ``clients``: those that it knows; ``now``: its clock."""

    def __init__(self, service: Service, clients: Clients, now: Callable[[], float]) -> None:
        self.service = service
        self._now = now
        self._routes = routes_of(service)
        self._clients = clients
        self._seen: set[tuple[str, str]] = set()

    def read(self, request: Request) -> Asked:
        """Read a request. Never raises: an unreadable request is one that is refused."""
        route = self._routes.find(request.method, request.path)
        if route.name == "call":
            return Asked(f="call", route=route)
        if route.name == "unknown":
            why = f"not an endpoint of service {self.service.name!r}"
            return Asked(f="other", route=route, unjudged=why, refusal=Refusal("not_found", why, 404))
        if route.name == "method":
            why = f"{request.method} is not served at this path of service {self.service.name!r}"
            return Asked(
                f="other", route=route, unjudged=why, refusal=Refusal("invalid_request", why, 405, allow=route.allow)
            )
        fields, encoding = _parameters(request)
        if route.name in _BY_CLIENTS:
            return self._by_client(request, route, fields, encoding)
        why = _OPEN.get(route.name, "")
        return Asked(f="other", route=route, fields=fields or {}, encoding=encoding, unjudged=why)

    def _by_client(self, request: Request, route: Route, fields: dict[str, Any] | None, encoding: str | None) -> Asked:
        """A request of a client that must say who it is, or may."""
        client, refusal = self._authenticated(request, fields or {})
        if fields is None:
            refusal = Refusal("invalid_request", "the body is neither a form nor a JSON object, or repeats a parameter")
        elif route.name == "token" and not fields.get("grant_type"):
            refusal = Refusal("invalid_request", "grant_type is missing")
        elif refusal is None:
            refusal = self._incomplete(route, fields, client)
        why = "" if refusal is None else f"refused: {refusal.error}"
        if route.name == "device":
            why = why or _OPEN["device"]
        return Asked(
            f="token" if route.name == "token" else "other",
            route=route,
            fields=fields or {},
            encoding=encoding,
            client=client,
            refusal=refusal,
            unjudged=why,
        )

    def _incomplete(self, route: Route, fields: dict[str, Any], client: Client | None) -> Refusal | None:
        """What a request lacks, by the rules of its grant."""
        if route.name in ("revoke", "introspect"):
            return None if isinstance(fields.get("token"), str) else Refusal("invalid_request", "token is missing")
        if route.name == "device":
            return None
        grant = fields["grant_type"]
        if grant not in GRANTS or (grant == DEVICE_GRANT and self.service.device is None):
            return Refusal("unsupported_grant_type", f"this service knows {', '.join(GRANTS)}")
        if grant == "client_credentials":
            if client is None or client.secret is None:
                return Refusal("unauthorized_client", "client_credentials is for clients that authenticate")
        elif not isinstance(fields.get(_NEEDS[grant]), str):
            return Refusal("invalid_request", f"{_NEEDS[grant]} is missing")
        targets = fields.get("resource")
        for target in targets if isinstance(targets, list) else [targets]:
            if target is not None and not (isinstance(target, str) and _REDIRECTED.fullmatch(target)):
                return Refusal("invalid_target", "a resource is an absolute URI without a fragment (RFC 8707)")
        return None

    # Who sends it (RFC 6749 section 2.3).

    def _authenticated(self, request: Request, fields: Mapping[str, Any]) -> tuple[Client | None, Refusal | None]:
        scheme, _, basic = (request.header("authorization") or "").partition(" ")
        tried = scheme.lower() == "basic"
        ways = [
            name
            for name, used in (
                ("client_secret_basic", tried),
                ("client_secret_post", "client_secret" in fields),
                ("private_key_jwt", "client_assertion" in fields or "client_assertion_type" in fields),
            )
            if used
        ]
        if len(ways) > 1:
            return None, Refusal("invalid_request", "more than one way of authentication (RFC 6749 section 2.3)")
        way = ways[0] if ways else "none"
        no = Refusal("invalid_client", "", 401, "Basic" if tried else "")
        if way not in self.service.client_auth:
            accepted = ", ".join(self.service.client_auth)
            return None, _because(no, f"this service accepts {accepted}, and the request has {way}")
        if way == "none":
            return self._public(fields.get("client_id"), no)
        if way == "private_key_jwt":
            return self._by_assertion(request, fields, no)
        id_, secret = _basic(basic) if tried else (fields.get("client_id"), fields["client_secret"])
        if tried and fields.get("client_id", id_) != id_:
            return None, Refusal("invalid_request", "client_id is not the client that authenticates")
        client = self._clients.find(id_) if isinstance(id_, str) else None
        if client is None or client.secret is None:
            return None, _because(no, _UNKNOWN)
        return (client, None) if secret == client.secret else (None, _because(no, "the client's secret is wrong"))

    def _public(self, id_: object, no: Refusal) -> tuple[Client | None, Refusal | None]:
        if id_ is None:
            return None, None
        client = self._clients.find(id_) if isinstance(id_, str) else None
        if client is None:
            return None, _because(no, _UNKNOWN)
        if client.confidential:
            return None, _because(no, "this client has a secret, and must authenticate")
        return client, None

    def _by_assertion(
        self, request: Request, fields: Mapping[str, Any], no: Refusal
    ) -> tuple[Client | None, Refusal | None]:
        """RFC 7523 section 3: a JWT by the client about itself, for this service, not expired, used once."""
        assertion = fields.get("client_assertion")
        if fields.get("client_assertion_type") != ASSERTION or not isinstance(assertion, str):
            return None, _because(no, "the assertion and its type don't go together")
        try:
            _, claims = claims_of(assertion)
        except ValueError:
            return None, _because(no, "the assertion is not a JWT")
        id_ = claims.get("sub")
        client = self._clients.find(id_) if isinstance(id_, str) else None
        if client is None or claims.get("iss") != id_ or fields.get("client_id", id_) != id_:
            return None, _because(no, "the assertion is not by a known client about itself")
        if why := self._stale(claims, id_) or self._misdirected(claims, request):
            return None, _because(no, why)
        keys = (client.facts.get("jwks") or {}).get("keys") or []
        rsa = [key for key in keys if isinstance(key, dict) and key.get("kty") == "RSA"]
        if rsa and not any(verifies(assertion, key) for key in rsa):
            return None, _because(no, "none of the client's keys has signed the assertion")
        return client, None

    def _stale(self, claims: Mapping[str, Any], id_: str) -> str:
        until = claims.get("exp")
        if not isinstance(until, int | float) or self._now() >= until:
            return "the assertion has expired, or does not say when"
        used = (id_, str(claims["jti"])) if "jti" in claims else None
        if used in self._seen:
            return "the assertion was used before"
        if used is not None:
            self._seen.add(used)
        return ""

    def _misdirected(self, claims: Mapping[str, Any], request: Request) -> str:
        place = self._routes.place(request, self._routes.find(request.method, request.path).variables)
        audience = claims.get("aud")
        meant = audience if isinstance(audience, list) else [audience]
        ours = (place.url(self._routes.issuer), f"{place.base}{request.path}", *map(place.url, self.service.token))
        return "" if any(one in (*ours, f"{ours[0]}/") for one in meant) else "the assertion is for another service"


_UNKNOWN = "this client is not known: take an account's client_id and client_secret, register, or name it in `clients`"


def _because(refusal: Refusal, text: str) -> Refusal:
    return Refusal(refusal.error, text, refusal.status, refusal.challenge)


def _basic(encoded: str) -> tuple[str | None, str]:
    """Id and secret of HTTP Basic authentication; both are form-encoded first (RFC 6749 section 2.3.1)."""
    try:
        id_, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # as base64, of a text that is not ASCII, or as UTF-8
        return None, ""
    return unquote_plus(id_), unquote_plus(secret)


def _parameters(request: Request) -> tuple[dict[str, Any] | None, str | None]:
    """The parameters of the query, or of the body, and the body's encoding; ``None`` for a body that can't be read.

    RFC 6749 section 3.1: a parameter without a value counts as absent, and none may be repeated.
    """
    if request.method in ("GET", "HEAD"):
        return _unrepeated(parse_qsl(request.query, keep_blank_values=True)) or {}, None
    kind = (request.header("content-type") or "").lower()
    if "json" in kind:
        try:
            value = read_json(request.body)
        except ValueError:
            return None, None
        return (
            ({n: v for n, v in value.items() if v not in ("", None)}, "json")
            if isinstance(value, dict)
            else (None, None)
        )
    text = request.body.decode("utf-8", "replace")
    if text and "=" not in text:
        return None, None
    fields = _unrepeated(parse_qsl(text, keep_blank_values=True))
    return fields, "form"


def _unrepeated(pairs: list[tuple[str, str]]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in _REPEATABLE:
            found.setdefault(name, []).append(value)
        elif name in found:
            return None
        else:
            found[name] = value
    return {name: value for name, value in found.items() if value not in ("", [])}
