"""Who answers a request: the user's own respx route, the service, or the network.

respx asks its routers in turn and goes on only after a "not mocked". One router of ours is first in each of its
lists, whatever was entered before or after, and decides:

* a host of the service: the user's own respx route, if one matches, answers; else the service does. A user's
  pass-through route leaves the request to the service, and a router with ``assert_all_mocked=False`` does not get to
  answer with its automatic 200;
* any other host: respx goes on as if we were not there, with its "not mocked", too; without a router of the user's
  the request goes to the network untouched;
* a loopback address is a host like any other, but reaches the network where no route of the user's matches: it may
  be the service's own socket;
* what a connection pool sends on to a forward proxy has been decided about where the pool was asked.
"""

from __future__ import annotations

import functools
import importlib
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import httpx

from fake_server.hosts import KNOWN_HOSTS, Hosts, hosts_of, is_loopback
from fake_server.transports.inprocess.driving import Destination, Drive
from fake_server.transports.inprocess.libraries import importable
from fake_server.transports.inprocess.respx_internals import (
    AllMockedAssertionError,
    Level,
    PassThrough,
    Router,
    ask_first,
    explicit,
    is_alone,
    is_defined,
    joined,
    level,
    matches,
    others,
    passed_on,
    reader_patch,
    start,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Interceptor", "MissingExtra"]


class MissingExtra(ImportError):
    """httpx2 is installed, but not the extra that is needed to answer its requests."""


class Interceptor:
    """Answers requests to the service's hosts (and ``hosts``) while it is entered.

    ``resolve`` is called for each request, so that one interceptor can serve a new service for each example. If it
    returns ``None``, the next outer interceptor is asked, and finally the network. The innermost one is asked first.
    It is reentrant.
    """

    def __init__(self, resolve: Callable[[], Destination | None], *, hosts: Iterable[str] = ()) -> None:
        self.resolve = resolve
        self.hosts: Hosts = hosts_of((*KNOWN_HOSTS, *hosts))

    def start(self) -> None:
        """Start to answer requests."""
        with _lock:
            if not _active:
                _patch()
            _active.append(self)

    def stop(self) -> None:
        """Undo the last :meth:`start`; respx is then as before it."""
        with _lock:
            place = len(_active) - 1 - _active[::-1].index(self)
            del _active[place]
            if not _active:
                _unpatch()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


_PORTS = {"http": 80, "https": 443}
_lock = Lock()
_active: list[Interceptor] = []
_routers: list[_FirstRouter] = []


class _FirstRouter(Router):
    """The router that respx asks first, for one of the levels at which it patches.

    ``library`` is the transport library of that level. Without one (respx's upper level ``httpx``) a request to the
    service is passed through to the level below.
    """

    def __init__(self, where: Level, library: Any) -> None:
        super().__init__(assert_all_called=False)
        self._level = where
        self._library = library
        self._reading: Any = None

    def start(self) -> None:
        ask_first(self._level, self)
        if self._library is not None:
            self._reading = reader_patch(self._level, _read)
            self._reading.start()
            start(self._level)

    def stop(self) -> None:
        self._level.unregister(self)
        self._level.stop()
        if self._library is not None:
            self._reading.stop()

    def handler(self, request: httpx.Request) -> httpx.Response:
        """Answer, or raise an exception that makes respx ask the next router or level."""
        target, users = self._find(request)
        for router in users:
            try:
                resolved = router.resolve(request)
            except (AllMockedAssertionError, PassThrough):
                continue
            if (response := explicit(resolved)) is not None:
                return response
        return self._drive(target, request).send()

    async def async_handler(self, request: httpx.Request) -> httpx.Response:
        """Answer, or raise an exception that makes respx ask the next router or level."""
        target, users = self._find(request)
        for router in users:
            try:
                resolved = await router.aresolve(request)
            except (AllMockedAssertionError, PassThrough):
                continue
            if (response := explicit(resolved)) is not None:
                return response
        return await self._drive(target, request).send_async()

    def _find(self, request: httpx.Request) -> tuple[Destination | None, list[Router]]:
        """The service that must answer, if any, and the user's routers that have a route for the request."""
        if isinstance(request, _Relayed):
            return None, []
        host = request.url.host
        target = _target(host, request.url.port or _PORTS.get(request.url.scheme))
        if is_alone(self._level):
            return target, []
        if target is None and not is_loopback(host):
            raise AllMockedAssertionError(f"RESPX: {request!r} not mocked!")  # respx asks the next router
        users = others(self._level, self)
        return target, [router for router in users if any(matches(route, request) for route in router.routes)]

    def _drive(self, target: Destination | None, request: httpx.Request) -> Drive:
        if target is None or self._library is None:
            raise passed_on(request)
        return Drive(target, request, self._library)


class _Relayed(httpx.Request):
    """A request that a pool relays to a forward proxy. In respx's form its address is always the proxy's."""


def _read(*, request: Any, **_: Any) -> httpx.Request:
    """A transport's request in the form that respx works with.

    respx joins host and target to a URL. In a request to a proxy the target is a URL itself, so the result would be
    invalid. And it parses the URL of each request anew, which takes as long as all the rest.
    """
    url = request.url
    if _is_relayed(request):
        relayed = httpx.URL(scheme=url.scheme.decode("ascii"), host=url.host.decode("ascii"))
        return _Relayed(request.method, relayed, headers=request.headers, stream=request.stream)
    return httpx.Request(
        request.method.decode("ascii"),
        joined((url.scheme, url.host, url.port, url.target)),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )


def _is_relayed(request: Any) -> bool:
    """Whether the target is in absolute form (RFC 9112 section 3.2.2) or in a tunnel's authority form (3.2.3)."""
    target = request.url.target
    return not target.startswith(b"/") and (request.method == b"CONNECT" or b"://" in target)


def _target(host: str, port: int | None) -> Destination | None:
    for interceptor in reversed(_active):
        if interceptor.hosts.match(host, port) and (target := interceptor.resolve()) is not None:
            return target
    return None


def _patch() -> None:
    levels: dict[str, str | None] = {"httpx": None, "httpcore": "httpcore"}
    if importable("httpx2"):
        if not is_defined("httpcore2"):
            _register_httpx2()
        levels["httpcore2"] = "httpcore2"
    for name, library in levels.items():
        router = _first_router(name, library)
        router.start()
        _routers.append(router)


@functools.cache
def _first_router(name: str, library: str | None) -> _FirstRouter:
    """The router of a level. It keeps nothing of a test, so one serves all."""
    return _FirstRouter(level(name), None if library is None else importlib.import_module(library))


def _unpatch() -> None:
    while _routers:
        _routers.pop().stop()


def _register_httpx2() -> None:
    """Have pytest-httpx2 define its respx mocker: names are unique, so a mocker of our own would conflict with it."""
    try:
        importlib.import_module("pytest_httpx2")
    except ImportError as error:
        raise MissingExtra(
            "httpx2 is installed, but its requests can't be answered without pytest-httpx2: "
            'pip install "pytest-claude-tokens[httpx2]"'
        ) from error
