"""The part of the guard that keeps a suite away from the real hosts, and from those that the fake answers for.

A host's name is visible at its look-up, whatever the client library, so it is refused there, in the form in which the
resolver would be asked for it. ``connect`` and similar methods of ``socket.socket`` look a name up before they raise
their audit event, so they are wrapped. ``NO_PROXY`` names the hosts meanwhile, because a user's proxy would look the
names up elsewhere. Requests through a proxy that was passed to a client explicitly are seen only if the client is built
on ``http.client``.

Out of reach: a library with its own resolver, or with its own tunnel through such a proxy, sockets created as
``_socket.socket``, and calls below ``socket``, such as by ``ctypes``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from fake_server.genuine import os
from pytest_claude_tokens.guard import audit, proxied
from pytest_claude_tokens.guard.refusal import refuse

if TYPE_CHECKING:
    from pytest_claude_tokens.guard.audit import Args, Check

__all__ = ["CHECKS", "GUARDED", "HOSTS", "MARKER", "install", "uninstall"]

HOSTS = ("anthropic.com", "claude.com", "claude.ai")
"""The real hosts: these domains and all their subdomains."""

GUARDED = "_claude_tokens_guarded"
"""The attribute of a method that a search puts in the place of a guarded one, and that calls it where need be."""

MARKER = "CLAUDE_TOKENS_HANDLE"
"""The variable that marks an environment built by a handle."""

_ANSWERED = (
    "httpx and httpx2 are answered in process while a handle is open, any other client through tokens.url or "
    "tokens.environ()"
)
_NO_PART_OF_A_NAME = re.compile("[^a-z0-9._-]+")
"""What stands between a name and the rest where a text is not a name alone."""

_BYTES = (bytes, bytearray, memoryview)
"""Types of data that a socket sends."""
_FIRST_BUFFERS = 8
"""Buffers of one ``sendmsg`` in which the head of a request is looked for."""

_proxies: dict[str, tuple[str | None, str]] = {}
_wrapped: list[tuple[type, str, Any, Any]] = []
_ours: set[Any] = set()
_named: tuple[str, ...] = ()
_written: tuple[str, ...] = ()
"""The hosts that a handle answers for and that are not the real ones, as they were written."""


def install(written: tuple[str, ...] = ()) -> None:
    """Guard the hosts that are ``written``, too; name all hosts in ``NO_PROXY``, and wrap the sockets' methods.

    Each handle calls this: a test may have replaced either and restored it since.
    """
    global _written  # noqa: PLW0603 - there is one guard per process
    if not set(written) <= set(_written):
        _written = (*_written, *(host for host in written if host not in _written))
    _name_hosts_in_no_proxy()
    _wrap_sockets()


def uninstall() -> None:
    """Undo :func:`install`; replacements that other code has made meanwhile are kept."""
    global _named, _written  # noqa: PLW0603 - as above
    _named = _written = ()
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
    """Refuse a guarded host, in whatever spelling."""
    # Of a subclass, the interpreter reads the characters, and `getaddrinfo` asks a `str` for its encoding.
    if isinstance(host, str):
        if type(host).encode is not str.encode:
            _check_host(host.encode("idna"))
        _check_name(str.__str__(host))
    elif isinstance(host, (bytes, bytearray)):
        _check_name(memoryview(host).tobytes())


def _check_name(text: str | bytes) -> None:
    from fake_server.hosts import canonical  # late: the guard is loaded without the service

    try:
        with audit.muted():  # the first name with a letter beyond ASCII imports IDNA's tables
            name = canonical(text)
    except ValueError:
        from fake_server.secrecy import shown

        refuse(f"to look up {shown(text)}", "a resolver could read this name in more than one way", host=shown(text))
    _refuse_guarded(name)
    if _NO_PART_OF_A_NAME.search(name):  # such as a space, a user, a port, an escape: a lenient reader leaves it out
        for part in _NO_PART_OF_A_NAME.split(_unescaped(name)):
            _refuse_guarded(part.strip("."))


def _unescaped(name: str) -> str:
    from urllib.parse import unquote  # seldom needed

    from fake_server.hosts import canonical

    with suppress(ValueError):  # an IPv6 address's zone may look like an escape that is none
        return canonical(unquote(name))
    return name


def _refuse_guarded(name: str) -> None:
    from fake_server.hosts import hosts_of, is_loopback  # late: the guard is loaded without the service

    if any(name == real or name.endswith("." + real) for real in HOSTS):
        refuse(
            f"to reach {name}",
            f"tests never talk to the real service; {_ANSWERED} (ini option claude_tokens_allow_real_hosts = true for "
            "suites that need it)",
            host=name,
        )
    if _written and hosts_of(_written).match(name) and not is_loopback(name):
        refuse(f"to reach {name}", f"a test has named it in hosts=, so it is never asked; {_ANSWERED}", host=name)


def _check_address(address: object) -> None:
    if isinstance(address, tuple) and tuple.__len__(address):
        _check_host(tuple.__getitem__(address, 0))


def _on_look_up(event: str, args: Args) -> None:
    _check_host(args[0])


def _on_connect(event: str, args: Args) -> None:
    _check_address(args[1])


def _on_send(event: str, args: Args) -> None:
    """``http.client`` sends data, maybe over TLS."""
    connection, data = args
    _check_sent(data, lambda: _is_ours(connection.host, connection.port))


def _check_sent(data: Any, trusted: Callable[[], bool]) -> None:
    """Refuse data that asks a proxy for a guarded host, unless the proxy is trusted."""
    asked = proxied.host_in(data) if isinstance(data, _BYTES) else None
    if asked is not None and not trusted():
        _check_host(asked)


def _is_ours(host: str, port: int) -> bool:
    """Whether a fake server is there: in this process or, in an environment built by a handle, in another one."""
    from fake_server.hosts import LISTENING_PORTS, is_loopback  # late: the guard is loaded without the service

    return is_loopback(host) and (port in LISTENING_PORTS or MARKER in os.environ)


def _is_near(connection: Any) -> bool:
    """Whether the other end is on this machine, where it may be a fake server of another process."""
    from fake_server.hosts import is_loopback  # late: the guard is loaded without the service

    try:
        return is_loopback(connection.getpeername()[0])
    except (OSError, IndexError, TypeError):  # it is not connected, or by a Unix socket
        return False


CHECKS: dict[str, Check] = {
    "socket.getaddrinfo": _on_look_up,
    "socket.gethostbyname": _on_look_up,
    "socket.gethostbyaddr": _on_look_up,
    "socket.connect": _on_connect,
    "socket.sendto": _on_connect,
    "socket.sendmsg": _on_connect,
    "http.client.send": _on_send,
}
"""The check of each audit event."""


# --- sockets ----------------------------------------------------------------------------------------------------


def _wrap_sockets() -> None:
    from fake_server.genuine import socket  # late: loading the guard stays cheap

    owner = socket.socket
    for name, wrapped in _WRAPPERS.items():
        before = getattr(owner, name)
        if before not in _ours and not hasattr(before, GUARDED):
            ours = wrapped(before)
            _ours.add(ours)
            _wrapped.append((owner, name, owner.__dict__.get(name), ours))
            setattr(owner, name, ours)


def _checked(method: Callable[..., Any], places: slice) -> Callable[..., Any]:
    """For a method that looks a name up; ``places``: where the address is among its arguments."""

    @wraps(method)
    def checked(connection: Any, *args: Any) -> Any:
        for address in args[places] if _wrapped else ():  # code that holds a reference may call it after `uninstall`
            _check_address(address)
        return method(connection, *args)

    return checked


def _checked_data(method: Callable[..., Any]) -> Callable[..., Any]:
    """For a method whose first argument is data, which goes to the other end of the connection."""

    @wraps(method)
    def checked(connection: Any, data: Any, *args: Any) -> Any:
        if _wrapped:
            _check_sent(data, lambda: _is_near(connection))
        return method(connection, data, *args)

    return checked


def _checked_buffers(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same, for one whose first argument is an iterable of buffers."""

    @wraps(method)
    def checked(connection: Any, buffers: Any, *args: Any) -> Any:
        if _wrapped:
            buffers = [*buffers]  # maybe to be iterated over once
            first = b"".join(buffer for buffer in buffers[:_FIRST_BUFFERS] if isinstance(buffer, _BYTES))
            _check_sent(first, lambda: _is_near(connection))
        return method(connection, buffers, *args)

    return checked


_WRAPPERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "bind": partial(_checked, places=slice(0, 1)),
    "connect": partial(_checked, places=slice(0, 1)),
    "connect_ex": partial(_checked, places=slice(0, 1)),
    "sendto": partial(_checked, places=slice(1, 3)),
    "sendmsg": lambda method: _checked_buffers(_checked(method, slice(3, 4))),
    "send": _checked_data,
    "sendall": _checked_data,
}
"""What is wrapped around each method of a socket."""


# --- NO_PROXY ---------------------------------------------------------------------------------------------------


def _name_hosts_in_no_proxy() -> None:
    global _named  # noqa: PLW0603 - as above
    found = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    if _named == _written and all(name in _proxies and value == _proxies[name][1] for name, value in found.items()):
        return  # unchanged: the common case for the many handles of a search
    if MARKER in os.environ:  # an environment built by a handle: its proxy is the fake one
        return
    hosts = (*HOSTS, *_further_names())
    for name, value in found.items():
        before, ours = _proxies.get(name, (value, None))
        base = value if value is not None else next(filter(None, found.values()), "")
        named = [part.strip() for part in base.split(",") if part.strip()]
        if "*" in named:  # `*` means all hosts, but to some clients only if it stands alone
            continue
        wanted = ",".join([*named, *(host for host in hosts if host not in named)])
        if wanted != value:
            _proxies[name] = (before if value == ours else value, wanted)
            os.environ[name] = wanted
    _named = _written


def _further_names() -> list[str]:
    """The hosts besides the real ones, as clients read them in ``NO_PROXY``: all below a name begin with a dot.

    Without the international ones: httpx2 can't be made any more where one of those stands in ``NO_PROXY``.
    """
    from fake_server.hosts import hosts_of, is_loopback  # late: the guard is loaded without the service

    names = (name for name in hosts_of(_written).names if not is_loopback(name) and "xn--" not in name)
    return [name.removeprefix("*") for name in names]


def _restore_no_proxy() -> None:
    for name, (before, ours) in _proxies.items():
        if os.environ.get(name) == ours:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
    _proxies.clear()
