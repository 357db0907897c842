"""Which endpoint or resource of a service a path leads to; and back, the addresses that metadata names."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fake_server.hosts import hosts_of, is_loopback
from fake_server.service import ENDPOINTS, Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fake_server.protocol.wire import Request

__all__ = ["Place", "Resource", "Route", "Routes", "base_of", "routes_of"]

_METHODS = {
    "token": ("POST",),
    "authorize": ("GET", "POST"),
    "revoke": ("POST",),
    "introspect": ("POST",),
    "register": ("POST",),
    "device": ("POST",),
    "verify": ("GET", "POST"),
    "userinfo": ("GET", "POST"),
    "keys": ("GET", "HEAD"),
    "server-metadata": ("GET", "HEAD"),
    "openid-metadata": ("GET", "HEAD"),
    "resource-metadata": ("GET", "HEAD"),
}
_SERVER = "/.well-known/oauth-authorization-server"
_OPENID = "/.well-known/openid-configuration"
_PROTECTED = "/.well-known/oauth-protected-resource"
_VARIABLE = re.compile(r"\{(\w*)\}")
_ANY = "default"
"""What a ``{name}`` of a path is where a request does not say."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource: its methods, its path, and the scopes that it needs."""

    method: str
    path: str
    scopes: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether it is one address, and no pattern."""
        return "*" not in self.path and "{" not in self.path

    def takes(self, method: str) -> bool:
        """Whether a request with ``method`` is one to it."""
        return self.method in ("*", method) or (self.method == "GET" and method == "HEAD")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request leads: ``name`` is the endpoint's, ``call`` for a resource, ``unknown`` for nothing.

    ``method``: the path is known, but not for that method; ``allow`` has those that are. ``rest``: the part of a
    metadata path that names a resource.
    """

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    resource: Resource | None = None
    allow: tuple[str, ...] = ()
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """The address under which a client reached the service: scheme and authority, and the path's variables."""

    base: str
    variables: Mapping[str, str]

    def url(self, path: str) -> str:
        """The address of ``path`` with its variables filled in."""
        return self.base + _VARIABLE.sub(lambda found: self.variables.get(found[1], _ANY), path)


class Routes:
    """The paths of one service, compiled."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.resources: tuple[Resource, ...] = tuple(map(_resource, service.resources))
        self.issuer: str = service.issuer or _issuer(service.token)
        named = [host for host in service.hosts if not host.startswith("*.")]
        self.home: Place = Place(f"https://{(*named, 'auth.example.com')[0]}", {})
        """Where the authorization server is by its own name."""
        self._first, self._others = hosts_of(tuple(named[:1])), hosts_of(tuple(named[1:]))
        self.verify: str | None = None if service.device is None else f"{service.device}/verify"
        self._endpoints = tuple(self._compiled())
        self._calls = tuple((_pattern(resource.path), resource) for resource in self.resources)

    def _compiled(self) -> Iterator[tuple[re.Pattern[str], str]]:
        service, issuer = self.service, self.issuer
        for path in service.token:
            yield _pattern(path), "token"
        for name in ENDPOINTS[1:]:
            if (path := getattr(service, name)) is not None:
                yield _pattern(path), name
        if self.verify is not None:
            yield _pattern(self.verify), "verify"
        for path in dict.fromkeys((f"{_SERVER}{issuer}", f"{issuer}{_SERVER}")):  # RFC 8414 section 3.1, and by mistake
            yield _pattern(path), "server-metadata"
        if service.openid:
            for path in dict.fromkeys((f"{issuer}{_OPENID}", f"{_OPENID}{issuer}")):
                yield _pattern(path), "openid-metadata"

    def listed(self) -> dict[str, Any]:
        """Every endpoint with its methods and its path, and the resources, as JSON."""
        service = self.service
        paths = [("token", path) for path in service.token]
        paths += [(name, path) for name in ENDPOINTS[1:] if (path := getattr(service, name)) is not None]
        paths += [] if self.verify is None else [("verify", self.verify)]
        paths.append(("server-metadata", f"{_SERVER}{self.issuer}"))
        paths += [("openid-metadata", f"{self.issuer}{_OPENID}")] if service.openid else []
        paths += [("resource-metadata", _PROTECTED)] if self.resources else []
        endpoints = [{"name": name, "methods": list(_METHODS[name]), "path": path} for name, path in paths]
        return {"endpoints": endpoints, "resources": list(service.resources)}

    @property
    def targets(self) -> tuple[str, ...]:
        """The kinds of requests that a fault may strike."""
        named = [name for name in ENDPOINTS[1:-1] if getattr(self.service, name) is not None]
        return ("token", *(["call"] if self.resources else []), "metadata", *named)

    def find(self, method: str, path: str) -> Route:
        """Where a request with that method and path leads."""
        for pattern, name in self._endpoints:
            if found := pattern.fullmatch(path):
                allow = _METHODS[name]
                return Route(name, found.groupdict()) if method in allow else Route("method", allow=allow)
        allow = ()
        for pattern, resource in self._calls:
            if found := pattern.fullmatch(path):
                if resource.takes(method):
                    return Route("call", found.groupdict(), resource)
                allow = (*allow, resource.method)
        if allow:
            return Route("method", allow=allow)
        return self._protected(method, path)

    def _protected(self, method: str, path: str) -> Route:
        """The metadata of a resource: its path is inserted after the well-known one (RFC 9728 section 3.1)."""
        rest = path.removeprefix(_PROTECTED)
        known = rest in ("", "/") or any(pattern.fullmatch(rest) for pattern, _ in self._calls)
        if rest == path or not known or not self.resources:
            return Route("unknown")
        allow = _METHODS["resource-metadata"]
        if method not in allow:
            return Route("method", allow=allow)
        return Route("resource-metadata", rest=rest.rstrip("/"))

    def metadata_of(self, base: str, path: str, resource: Resource) -> str:
        """The address of the metadata of a resource that a client reached at ``path``."""
        return f"{base}{_PROTECTED}{path if resource.exact else ''}"

    def place(self, request: Request, variables: Mapping[str, str]) -> Place:
        """Where the client of ``request`` finds the authorization server."""
        if self._others.match(request.host) and not self._first.match(request.host):
            return Place(self.home.base, variables)
        return Place(base_of(request), variables)


@functools.lru_cache(maxsize=64)
def routes_of(service: Service) -> Routes:
    """The routes of ``service``: compiled once, as a search makes a service for each of its runs."""
    return Routes(service)


def base_of(request: Request) -> str:
    """Scheme, authority and worker's prefix of the address that the client used, without a path.

    Under a real host's name a prefix is not the client's: Node's preload puts it there.
    """
    ours = is_loopback(request.host)
    prefix = f"/w/{quote(request.worker, safe='')}" if ours and request.worker and request.prefixed else ""
    scheme = request.scheme or ("http" if ours else "https")
    return f"{scheme}://{request.header('host') or request.host}{prefix}"


def _resource(text: str) -> Resource:
    method, path, *scopes = text.split()
    return Resource(method, path, tuple(scopes))


def _issuer(token: tuple[str, ...]) -> str:
    """The issuer's path: that of the first token path, up to and with its last variable."""
    return token[0][: token[0].rfind("}") + 1] if token else ""


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w*\}|\*)", path)
    seen: set[str] = set()
    return re.compile("".join(_regex(part, seen) for part in parts))


def _regex(part: str, seen: set[str]) -> str:
    if part == "*":
        return ".*"
    variable = _VARIABLE.fullmatch(part)
    if variable is None:
        return re.escape(part)
    name = variable[1]
    if not name.isidentifier() or name in seen:
        return "[^/]+"
    seen.add(name)
    return f"(?P<{name}>[^/]+)"
