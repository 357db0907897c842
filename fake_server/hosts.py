"""The hosts that the fake answers for, the check for loopback, and the ports on which services listen.

Names are compared as a resolver would be asked for them: one name has many spellings (capitals, a final dot, IDNA's
full-width letters and other dots), and all of them lead to one machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

from fake_server.secrecy import is_name, shown

__all__ = ["KNOWN_HOSTS", "LISTENING_PORTS", "NAME_IT", "Hosts", "canonical", "hosts_of", "is_loopback"]

KNOWN_HOSTS = ("api.anthropic.com", "platform.claude.com", "console.anthropic.com", "claude.ai")

NAME_IT = "name it in hosts=[...], and the service answers for it; nothing is forwarded"
"""The remedy where a client asks for a host that the service does not answer for."""

LISTENING_PORTS: set[int] = set()
"""The loopback ports on which services in this process listen now: requests sent there never leave the machine.

Each listener adds its port and removes it again; a guard that keeps requests off the network reads them.
"""

_SPELLED_LENGTH = 1024
"""Characters of the longest spelling that is looked at; a name has at most 253 (RFC 1035 section 2.3.4)."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


@lru_cache(maxsize=1024)
def canonical(host: str | bytes) -> str:
    """``host`` in its canonical form, as a resolver is asked for it: IDNA's ASCII (RFC 3490), in lower case, without a
    trailing dot or an IPv6 address's brackets.

    Raises ``ValueError`` for a text that cannot be brought into that form, and for one with a backslash, which a
    resolver takes for an escape (RFC 1035 section 5.1).
    """
    text = host.decode() if isinstance(host, bytes) else host
    text = text.partition("\0")[0]  # `getaddrinfo` gets it as a string of C, which ends there
    if "\\" in text or len(text) > _SPELLED_LENGTH:
        raise ValueError("this host's name is escaped, or too long")
    name = text if text.isascii() else text.encode("idna").decode("ascii")
    name = name.lower().rstrip(".")
    return name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, is loopback: 127.0.0.0/8 or ``::1``."""
    try:
        name = canonical(host)
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Hosts:
    """A set of hosts, each written as a name, a name and a port (``name:port``), or all names below one (``*.name``).

    An address counts as a name. Raises ``ValueError`` for any other text.
    """

    __slots__ = ("_below", "_ports", "written")

    def __init__(self, written: Iterable[str]) -> None:
        self.written: tuple[str, ...] = tuple(written)
        self._ports: dict[str, set[int | None]] = {}
        self._below: tuple[str, ...] = ()
        for text in self.written:
            name, port = _read(text)
            if name.startswith("*."):
                self._below = (*self._below, name[1:])
            else:
                self._ports.setdefault(name, set()).add(port)

    @property
    def beyond(self) -> tuple[str, ...]:
        """Those beyond this machine, each written in its canonical form."""
        named = [(name, port) for name, ports in self._ports.items() for port in ports if not is_loopback(name)]
        return (*(_write(name, port) for name, port in named), *(f"*{below}" for below in self._below))

    @property
    def spelled(self) -> tuple[str, ...]:
        """Each in canonical form, in the order in which they were written."""
        read = map(_read, self.written)
        return tuple(dict.fromkeys(name if name.startswith("*.") else _write(name, port) for name, port in read))

    @property
    def names(self) -> tuple[str, ...]:
        """Each in canonical form, without its port."""
        return (*self._ports, *(f"*{below}" for below in self._below))

    def match(self, host: str | bytes, port: int | None = None) -> bool:
        """Whether ``host`` is one of them, at ``port``; ``None``: at any port."""
        try:
            name = canonical(host)
        except ValueError:
            return False
        ports = self._ports.get(name)
        if ports is not None and (port is None or None in ports or port in ports):
            return True
        return name.endswith(self._below) if self._below else False


@lru_cache(maxsize=256)
def hosts_of(written: tuple[str, ...]) -> Hosts:
    """The :class:`Hosts` of these texts. Remembered, as a search makes one service for each schedule."""
    return Hosts(written)


def _read(text: object) -> tuple[str, int | None]:
    """The canonical name, with its ``*.`` if it has one, and the port."""
    if isinstance(text, str) and is_name(text):
        host, port = _split(text)
        star = "*." if host.startswith("*.") and port is None else ""
        with suppress(ValueError):
            name = canonical(host.removeprefix(star))
            if _is_host(name) or (not star and ipaddress.ip_address(name) is not None):
                return star + name, port
    raise ValueError(
        f"hosts=[{shown(text)}]: must be a list of host names, each written as auth.example.com, auth.example.com:8443 "
        "or *.example.com (all names below it); no scheme, no path"
    )


def _write(name: str, port: int | None) -> str:
    host = f"[{name}]" if ":" in name else name
    return host if port is None else f"{host}:{port}"


def _split(text: str) -> tuple[str, int | None]:
    """A host and its port; a text whose port isn't one is no host."""
    host, colon, digits = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):  # no port; an IPv6 address without one
        return text, None
    if digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) < 65536:
        return host, int(digits)
    return "", None


def _is_host(name: str) -> bool:
    return len(name) <= 253 and all(map(_LABEL.fullmatch, name.split(".")))
