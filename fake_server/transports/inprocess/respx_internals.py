"""Every undocumented name of respx that is used, with its purpose.

The service must be asked before the user's routers, and respx has no public way to put one router in front of the
others. Each name has a test in ``tests/unit/transports/test_respx_internals.py`` that fails when a release no longer
has it, and says what to do.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, cast

from respx.mocks import Mocker
from respx.models import AllMockedAssertionError, PassThrough, ResolvedRoute, Route
from respx.patterns import parse_url
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
    "joined",
    "level",
    "matches",
    "others",
    "passed_on",
    "reader_patch",
    "start",
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


class Replacement:
    """An attribute of a class that is replaced from :meth:`start` to :meth:`stop`, as by ``unittest.mock``'s patcher.

    That one needs a tenth of a millisecond for each, most of it to find the class by its name; a test needs twenty.
    """

    def __init__(self, owner: type, name: str, value: object) -> None:
        self._owner = owner
        self._name = name
        self._value = value
        self._before: object = None

    def start(self) -> None:
        """Replace it."""
        self._before = vars(self._owner).get(self._name, _INHERITED)
        setattr(self._owner, self._name, self._value)

    def stop(self) -> None:
        """Put back what was there."""
        if self._before is _INHERITED:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)


_INHERITED = object()


def reader_patch(where: Level, read: Callable[..., httpx.Request]) -> Replacement:
    """Replace a level's conversion of a transport's request (``Mocker.to_httpx_request``)."""
    mocker: Any = where  # the subclass of each level has the method; Mocker itself does not
    return Replacement(mocker, "to_httpx_request", read)


@functools.lru_cache(maxsize=256)
def joined(url: tuple[bytes, bytes, int | None, bytes]) -> httpx.URL:
    """The URL of a transport's request, from scheme, host, port and target (``patterns.parse_url``)."""
    return parse_url(url)


def start(where: Level) -> None:
    """Patch the targets of a level, as ``Mocker.start`` does, but with what an earlier start has found and made.

    ``Mocker.stop`` undoes it (``Mocker._patches``, each with a ``stop``).
    """
    mocker: Any = where
    patches: list[Replacement] = mocker._patches  # noqa: SLF001 - each level has a list of its own
    if patches:
        return
    for target in where.targets:
        owner = _class(target)
        for name in where.target_methods:
            original = getattr(owner, name, None)
            if original is not None:
                patch = Replacement(owner, name, _mocked(where, original))
                patch.start()
                patches.append(patch)


@functools.cache
def _class(path: str) -> type:
    """The class of that name, which is the last part of ``path``."""
    module, _, name = path.rpartition(".")
    return cast("type", getattr(importlib.import_module(module), name))


@functools.lru_cache(maxsize=32)  # there are sixteen, unless a test has replaced some
def _mocked(where: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """What takes the place of a transport's method (``Mocker.mock``)."""
    return cast("Callable[..., Any]", where.mock(original))


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
