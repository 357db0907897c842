"""The hosts that the fake stands in for, and where it listens itself."""

from __future__ import annotations

__all__ = ["KNOWN_HOSTS", "LISTENING_PORTS"]

KNOWN_HOSTS = ("api.anthropic.com", "platform.claude.com", "console.anthropic.com", "claude.ai")

LISTENING_PORTS: set[int] = set()
"""The ports of loopback on which this process serves now: a request that is sent there goes no further."""
