"""The hosts that the fake answers for, the check for loopback, and the ports on which services listen."""

from __future__ import annotations

import ipaddress

__all__ = ["KNOWN_HOSTS", "LISTENING_PORTS", "canonical", "is_loopback"]

KNOWN_HOSTS = ("api.anthropic.com", "platform.claude.com", "console.anthropic.com", "claude.ai")

LISTENING_PORTS: set[int] = set()
"""The loopback ports on which services in this process listen now: requests sent there never leave the machine.

Each listener adds its port and removes it again; a guard that keeps requests off the network reads them.
"""


def canonical(host: str) -> str:
    """``host`` in its canonical form: lower case, without a trailing dot or an IPv6 address's brackets."""
    name = host.lower().rstrip(".")
    return name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, is loopback: 127.0.0.0/8 or ``::1``."""
    name = canonical(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
