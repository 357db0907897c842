"""The part of the guard that keeps a suite away from the real hosts.

A host's name is visible at the look-up, whatever the client library; so that is where it is refused. ``connect`` and
its like look a name up by themselves before they say so: these methods of ``socket.socket`` are wrapped. ``NO_PROXY``
names the hosts meanwhile, or a proxy of the user's would look the names up elsewhere. A proxy that a client
was given by hand is seen where the client is built on ``http.client``.

Out of reach: a library that brings a resolver of its own, or a tunnel of its own through such a proxy, and sockets that
are made as ``_socket.socket``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_claude_tokens.guard.audit import Args, Check

__all__ = ["CHECKS", "HOSTS", "MARKER", "RealServiceRefused", "install", "uninstall"]

HOSTS = ("anthropic.com", "claude.com", "claude.ai")
"""The real hosts: these and all below them."""

MARKER = "CLAUDE_TOKENS_HANDLE"
"""The variable that marks an environment as one of ours."""

_ASKS_PROXY = re.compile(rb"(?:CONNECT |[A-Z]+ https?://)(?:[^/@\s]*@)?([^/:?#\s]+)\S* HTTP/1\.")
"""The beginning of a request that names a host to a proxy."""

_ADDRESSES = {"connect": slice(0, 1), "connect_ex": slice(0, 1), "sendto": slice(1, 3), "sendmsg": slice(3, 4)}
"""The methods of a socket that look a name up, and where among their arguments the address is."""

_proxies: dict[str, tuple[str | None, str]] = {}
_wrapped: list[tuple[type, str, Any, Any]] = []
_ours: set[Any] = set()


class RealServiceRefused(RuntimeError):
    """The code under test was about to reach the real service, the user's real login or a real ``claude``."""

    __module__ = "claude_tokens"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self.args  # by name, as no module `claude_tokens` can be imported


def _rebuild(*args: object) -> RealServiceRefused:
    return RealServiceRefused(*args)


def install() -> None:
    """Name the hosts in ``NO_PROXY`` and wrap the sockets' methods.

    Each handle calls it: a test may have replaced either, and have put it back since.
    """
    _name_hosts_in_no_proxy()
    _wrap_sockets()


def uninstall() -> None:
    """Undo :func:`install`; a replacement that other code has made meanwhile stays."""
    _restore_no_proxy()
    for owner, name, before, ours in reversed(_wrapped):
        if owner.__dict__.get(name) is ours:
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
    _wrapped.clear()
    _ours.clear()


# --- checks -----------------------------------------------------------------------------------------------------


def _check_host(host: object) -> None:
    name = host.decode("ascii", "ignore") if isinstance(host, (bytes, bytearray)) else host
    if not isinstance(name, str):
        return
    name = name.rstrip(".").lower()
    if any(name == real or name.endswith("." + real) for real in HOSTS):
        raise RealServiceRefused(
            f"refused to reach {name}: tests never talk to the real service; httpx and httpx2 are answered in process "
            "while a handle is open, any other client through tokens.url or tokens.environ() (ini option "
            "claude_tokens_allow_real_hosts = true for suites that need it)"
        )


def _check_address(address: object) -> None:
    if isinstance(address, tuple) and address:
        _check_host(address[0])


def _on_look_up(event: str, args: Args) -> None:
    _check_host(args[0])


def _on_connect(event: str, args: Args) -> None:
    _check_address(args[1])


def _on_send(event: str, args: Args) -> None:
    """``http.client`` sends something: perhaps it asks a proxy for a real host."""
    connection, data = args
    asked = _ASKS_PROXY.match(data) if isinstance(data, bytes) else None
    if asked is not None and not _is_ours(connection):
        _check_host(asked[1])


def _is_ours(connection: Any) -> bool:
    """Whether it leads to a server of ours: one in this process, or, in an environment of ours, one in another."""
    from fake_server.hosts import LISTENING_PORTS, is_loopback  # late: the guard is loaded without the service

    return is_loopback(connection.host) and (connection.port in LISTENING_PORTS or MARKER in os.environ)


CHECKS: dict[str, Check] = {
    "socket.getaddrinfo": _on_look_up,
    "socket.gethostbyname": _on_look_up,
    "socket.gethostbyaddr": _on_look_up,
    "socket.connect": _on_connect,
    "socket.sendto": _on_connect,
    "socket.sendmsg": _on_connect,
    "http.client.send": _on_send,
}
"""What is done at which audit event."""


# --- sockets ----------------------------------------------------------------------------------------------------


def _wrap_sockets() -> None:
    import socket  # not before it is needed

    owner = socket.socket
    for name, places in _ADDRESSES.items():
        before = getattr(owner, name)
        if before not in _ours:
            ours = _checked(before, places)
            _ours.add(ours)
            _wrapped.append((owner, name, owner.__dict__.get(name), ours))
            setattr(owner, name, ours)


def _checked(method: Callable[..., Any], places: slice) -> Callable[..., Any]:
    @wraps(method)
    def checked(connection: Any, *args: Any) -> Any:
        for address in args[places] if _wrapped else ():  # code that kept it calls it after `uninstall`, too
            _check_address(address)
        return method(connection, *args)

    return checked


# --- NO_PROXY ---------------------------------------------------------------------------------------------------


def _name_hosts_in_no_proxy() -> None:
    found = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    if all(name in _proxies and value == _proxies[name][1] for name, value in found.items()):
        return  # as it was left: each handle looks, and there are many of them in a search
    if MARKER in os.environ:  # an environment of ours, in which the proxy is ours
        return
    for name, before in found.items():
        base = before if before is not None else next(filter(None, found.values()), "")
        named = [part.strip() for part in base.split(",") if part.strip()]
        if "*" in named:  # all hosts; to some clients only where it stands alone
            continue
        ours = ",".join([*named, *(host for host in HOSTS if host not in named)])
        if ours != before:
            _proxies[name] = (before, ours)
            os.environ[name] = ours


def _restore_no_proxy() -> None:
    for name, (before, ours) in _proxies.items():
        if os.environ.get(name) == ours:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
    _proxies.clear()
