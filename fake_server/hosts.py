"""Hosts: those that the fake stands in for, however it is reached, those that are this machine, and its ports there."""

from __future__ import annotations

import ipaddress

__all__ = ["KNOWN_HOSTS", "LISTENING_PORTS", "canonical", "is_loopback"]

KNOWN_HOSTS = ("api.anthropic.com", "platform.claude.com", "console.anthropic.com", "claude.ai")

LISTENING_PORTS: set[int] = set()
"""The ports of this machine on which a service in this process listens now: what is sent there goes no further.

Each listener adds its own and takes it away again; a guard that keeps requests off the network looks here.
"""


def canonical(host: str) -> str:
    """``host`` as it is compared: small letters, without the root's dot and an IPv6 address's brackets."""
    name = host.lower().rstrip(".")
    return name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, is this machine and nothing else: 127.0.0.0/8 and ``::1``."""
    name = canonical(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
