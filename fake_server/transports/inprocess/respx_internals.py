"""Every undocumented name of respx that is used, with its purpose.

The service must be asked before the user's routers, and respx has no public way to put one router in front of the
others. Each name has a test in ``tests/unit/transports/test_respx_internals.py`` that fails when a release no longer
has it, and says what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from respx.mocks import Mocker
from respx.models import AllMockedAssertionError, PassThrough, ResolvedRoute, Route
from respx.router import Router

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

__all__ = [
    "AllMockedAssertionError",
    "Level",
    "PassThrough",
    "Router",
    "ask_first",
    "explicit",
    "is_alone",
    "is_defined",
    "level",
    "matches",
    "others",
    "passed_on",
    "reader_patch",
]

Level = type[Mocker]
"""A level at which respx patches: above, httpx's transports (``httpx``), or below, a connection pool (``httpcore``)."""


def is_defined(name: str) -> bool:
    """Whether respx or a plugin of it defines a level of that name (``Mocker.registry``)."""
    return name in Mocker.registry


def level(name: str) -> Level:
    """The level of that name (``Mocker.registry``)."""
    return Mocker.registry[name]


def ask_first(where: Level, router: Router) -> None:
    """Put ``router`` in front of all others of its level (``Mocker.routers``, which are asked in order)."""
    where.routers.insert(0, router)


def others(where: Level, router: Router) -> list[Router]:
    """The user's routers of that level: all except ``router``."""
    return [one for one in where.routers if one is not router]


def is_alone(where: Level) -> bool:
    """Whether that level has only one router."""
    return len(where.routers) == 1


def reader_patch(where: Level, reader: Callable[[Callable[..., httpx.Request]], Callable[..., httpx.Request]]) -> Any:
    """Replace a level's conversion of a transport's request (``Mocker.to_httpx_request``)."""
    mocker: Any = where  # the subclass of each level has the method; Mocker itself does not
    return patch.object(mocker, "to_httpx_request", reader(mocker.to_httpx_request))


def matches(route: Route, request: httpx.Request) -> bool:
    """Whether a route matches the request; does not count as a call of the route (``Route.pattern``)."""
    return not route.pattern or bool(route.pattern.match(request))


def explicit(resolved: ResolvedRoute) -> httpx.Response | None:
    """The response of a matching route; ``None`` for the automatic one of a router without (``ResolvedRoute``)."""
    return None if resolved.route is None else cast("httpx.Response", resolved.response)


def passed_on(request: httpx.Request) -> PassThrough:
    """The exception by which a router leaves a request to the level below, or to the network (``PassThrough``)."""
    return PassThrough("not a request to the service", request=request, origin=_NO_ROUTE)


_NO_ROUTE = Route()
