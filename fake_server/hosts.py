"""The hosts that the fake stands in for, however it is reached."""

from __future__ import annotations

__all__ = ["KNOWN_HOSTS"]

KNOWN_HOSTS = ("api.anthropic.com", "platform.claude.com", "console.anthropic.com", "claude.ai")
