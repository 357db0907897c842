"""What a token service looks like on the wire, as one frozen value; a policy is how it behaves.

``claude`` is a service with paths, errors and a resource of its own. The others speak the standards: RFC 6749 (tokens),
6750 (bearers), 7009 (revocation), 7591 (registration), 7636 (PKCE), 7662 (introspection), 8414 and 9728 (metadata),
8628 (devices), and OpenID Connect.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from fake_server.checked import Refused, check_fields, one_of, plain_name, with_changes
from fake_server.hosts import hosts_of
from fake_server.secrecy import discreet_class, is_name, shown

__all__ = ["AUTH_METHODS", "CLAUDE_CLIENT", "ENDPOINTS", "SERVICES", "Service"]

AuthMethod = Literal["none", "client_secret_post", "client_secret_basic", "private_key_jwt"]
Respond = Callable[[Any], Any]

AUTH_METHODS: tuple[AuthMethod, ...] = ("none", "client_secret_post", "client_secret_basic", "private_key_jwt")
"""The ways in which a client may authenticate (RFC 7591 section 2, RFC 7523)."""

CLAUDE_CLIENT = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
"""The public client that Claude Code is; Claude's service takes any."""

ENDPOINTS = ("token", "authorize", "revoke", "introspect", "register", "device", "userinfo", "keys")
"""The endpoints that have a path of their own; metadata is where the standards say."""

_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/{}-]*")
_RESOURCE = re.compile(r"(?P<method>[A-Z]+|\*) +(?P<path>/\S*)(?P<scope>(?: +\S+)*)")
_SCOPE_WORD = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3
_RESERVED = ("/_claude_tokens/", "/w/", "/.well-known/")


@discreet_class
@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service's form. Make variants with :meth:`but`, or begin with ``Service.oauth(token="/oauth2/token", …)``.

    In a path ``{name}`` stands for one segment. ``None`` in place of a path: there is no such endpoint.
    """

    name: str = "claude"
    hosts: tuple[str, ...] = ()
    """The host names to answer for; the first is that of the authorization server, the issuer."""
    token: tuple[str, ...] = ()
    """One path or several; metadata names the first."""
    authorize: str | None = None
    revoke: str | None = None
    introspect: str | None = None
    register: str | None = None
    device: str | None = None
    userinfo: str | None = None
    keys: str | None = None
    """The path of the JWKS (RFC 7517); there is one wherever tokens are signed."""
    issuer: str = ""
    """The path of the issuer, such as ``/realms/{realm}``; by default the token path up to its last ``{name}``."""
    resources: tuple[str, ...] = ()
    """``POST /mcp``, ``GET /api/*``, ``* /files/{name} files:read``: method, path, and the scopes that are needed. A
    request there is a call."""
    protocol: Literal["", "mcp"] = ""
    """``mcp``: resources answer the Model Context Protocol (Streamable HTTP) where ``respond`` is ``None``."""
    client_auth: tuple[AuthMethod, ...] = AUTH_METHODS[:3]
    """How clients may authenticate; with ``none``, public clients are served."""
    clients: Mapping[str, str | None] | None = None
    """The known clients and their secrets, besides those of accounts and those that register; ``None``: any client is
    known as a public one."""
    scope: str = ""
    """The scopes of a login that asks for none. With ``openid`` among them there are ID tokens and OpenID discovery."""
    access_token: Literal["opaque", "jwt"] = "opaque"
    reply: Mapping[str, Any] = field(default_factory=dict)
    """Further members of each token reply."""
    respond: Any = None
    """What a call is answered: ``None`` (``{"ok": true}``), ``"echo"``, ``"sse"``, any other JSON value, or a function
    of the request that returns ``(status, headers, body)`` or a JSON value."""

    def __post_init__(self) -> None:
        check_fields(self, _CHECKS)
        if self.name == "claude" and any(getattr(self, name) for name in (*ENDPOINTS, "resources", "clients")):
            raise ValueError("the service claude is as it is: begin with Service.oauth(…), and give it a name")
        if self.keys is None and self.signs:
            object.__setattr__(self, "keys", "/oauth2/keys")

    def __hash__(self) -> int:
        return hash((self.name, self.hosts, self.token, self.resources, self.access_token))

    @property
    def standard(self) -> bool:
        """Whether it speaks the standards, and not Claude's dialect."""
        return self.name != "claude"

    @property
    def openid(self) -> bool:
        """Whether it is an OpenID provider."""
        return "openid" in self.scope.split()

    @property
    def signs(self) -> bool:
        """Whether any of its tokens is a JWT."""
        return self.openid or self.access_token == "jwt"

    @property
    def policy(self) -> str:
        """The preset of the policy that it has by default."""
        return "oauth" if self.standard else "anthropic"

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Raises ``TypeError`` for an unknown field, ``ValueError`` for a value that is invalid for its field.
        """
        return with_changes(self, changes)

    @classmethod
    def preset(cls, name: str) -> Service:
        """The preset ``name``. Raises ``ValueError`` that lists the presets."""
        if name not in SERVICES:
            raise ValueError(f"no service is named {shown(name)}; choose one of {', '.join(SERVICES)}")
        return SERVICES[name]

    @classmethod
    def oauth(cls, **changes: Any) -> Service:
        """The preset ``oauth`` with some fields changed."""
        return SERVICES["oauth"].but(**changes)

    @classmethod
    def oidc(cls, **changes: Any) -> Service:
        """The preset ``oidc`` with some fields changed."""
        return SERVICES["oidc"].but(**changes)

    @classmethod
    def mcp(cls, **changes: Any) -> Service:
        """The preset ``mcp`` with some fields changed."""
        return SERVICES["mcp"].but(**changes)

    @classmethod
    def from_toml(cls, text: str) -> Service:
        """A service from TOML with the same keys, and ``preset``, the preset that it begins with (``oauth``).

        Raises ``ValueError``, for text that is no TOML, too.
        """
        keys = tomllib.loads(text)
        try:
            return cls.preset(keys.pop("preset", "oauth")).but(**keys)
        except TypeError as error:
            raise ValueError(str(error)) from None

    def to_dict(self) -> str | dict[str, Any]:
        """The service as JSON, for the header of a history: a preset's name, or all that differs from ``oauth``."""
        if SERVICES.get(self.name) == self:
            return self.name
        base = SERVICES["oauth"]
        changed = {name: getattr(self, name) for name in sorted(_FIELDS) if getattr(self, name) != getattr(base, name)}
        changed.pop("clients", None)
        if callable(self.respond):
            changed["respond"] = getattr(self.respond, "__name__", type(self.respond).__name__)
        return {"name": self.name, **changed}


# Checks of fields: each returns the value in the form in which it is stored.


def _hosts(value: Any) -> Any:
    hosts = (value,) if isinstance(value, str) else _many(value, "a list of host names")
    try:
        found = hosts_of(hosts)
    except TypeError:  # not even hashable
        raise Refused("must be a list of host names") from None
    except ValueError as error:
        raise Refused(str(error).rpartition("]: ")[2]) from None
    return found.spelled


def _path(value: Any) -> Any:
    if not (isinstance(value, str) and _PATH.fullmatch(value) and is_name(value)):
        raise Refused("must be a path such as /oauth2/token, or None")
    if value.startswith(_RESERVED):
        raise Refused(f"the fake has the paths below {', '.join(_RESERVED)} itself")
    return value


def _paths(value: Any) -> Any:
    values = (value,) if isinstance(value, str) else _many(value, "one path or several")
    return tuple(_path(one) for one in values)


def _path_or_none(value: Any) -> Any:
    return None if value is None else _path(value)


def _issuer(value: Any) -> Any:
    return value if value == "" else _path(value).rstrip("/")


def _resources(value: Any) -> Any:
    values = (value,) if isinstance(value, str) else _many(value, "a list")
    for one in values:
        if not (isinstance(one, str) and (found := _RESOURCE.fullmatch(one)) and is_name(one)):
            raise Refused('must be a list such as ["POST /mcp", "GET /api/*"]')
        _path(found["path"])
    return values


def _many(value: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        raise Refused(f"must be {what}")
    return tuple(value)


def _methods(value: Any) -> Any:
    methods = (value,) if isinstance(value, str) else _many(value, "a list")
    if not methods or not set(methods) <= set(AUTH_METHODS):
        raise Refused(f"choose from {', '.join(AUTH_METHODS)}")
    return methods


def _clients(value: Any) -> Any:
    if value is None:
        return None
    known = value if isinstance(value, Mapping) else dict.fromkeys(_many(value, "a mapping of ids to secrets"))
    if not all(isinstance(one, str) and one for one in known):
        raise Refused("must be a mapping of clients' ids to their secrets, None for a public client")
    if not all(secret is None or (isinstance(secret, str) and secret) for secret in known.values()):
        raise Refused("a client's secret is a text, or None for a public client")
    return dict(known)


def _scope(value: Any) -> Any:
    words = value.split() if isinstance(value, str) else _many(value, "words with spaces between them")
    if not all(isinstance(word, str) and _SCOPE_WORD.fullmatch(word) and is_name(word) for word in words):
        raise Refused("must be words with spaces between them (RFC 6749 section 3.3)")
    return " ".join(words)


def _members(value: Any) -> Any:
    if not (isinstance(value, Mapping) and all(isinstance(name, str) for name in value)):
        raise Refused("must be a mapping of names to JSON values")
    return dict(value)


_FIELDS = frozenset(f.name for f in fields(Service))
_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": plain_name,
    "hosts": _hosts,
    "token": _paths,
    **dict.fromkeys(ENDPOINTS[1:], _path_or_none),
    "issuer": _issuer,
    "resources": _resources,
    "protocol": one_of("", "mcp"),
    "client_auth": _methods,
    "clients": _clients,
    "scope": _scope,
    "access_token": one_of("opaque", "jwt"),
    "reply": _members,
}

_OAUTH = Service(
    name="oauth",
    hosts=("auth.example.com", "api.example.com"),
    token=("/oauth2/token",),
    authorize="/oauth2/authorize",
    revoke="/oauth2/revoke",
    introspect="/oauth2/introspect",
    register="/oauth2/register",
    device="/oauth2/device",
    resources=("GET /api/*", "POST /api/*"),
    scope="read write",
)
SERVICES: dict[str, Service] = {
    service.name: service
    for service in (
        Service(),
        _OAUTH,
        _OAUTH.but(
            name="oidc",
            scope="openid profile email offline_access",
            userinfo="/oauth2/userinfo",
            keys="/oauth2/keys",
        ),
        Service(
            name="mcp",
            hosts=("mcp.example.com",),
            token=("/token",),
            authorize="/authorize",
            register="/register",
            resources=("POST /mcp",),
            protocol="mcp",
            scope="mcp",
        ),
    )
}
"""The presets."""
