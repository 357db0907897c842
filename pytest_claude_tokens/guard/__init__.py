"""The guard: no request reaches the real service, and no code touches the real login."""

from __future__ import annotations

from pytest_claude_tokens.guard.hosts import RealServiceRefused

__all__ = ["RealServiceRefused"]
