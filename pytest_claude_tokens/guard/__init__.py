"""The guard: an audit hook that refuses requests to the real service and access to the user's real login.

It knows handles only as watchers, and neither pytest nor the fake service's internals. It imports little, as every
handle loads it.
"""

from __future__ import annotations

from pytest_claude_tokens.guard.refusal import RealServiceRefused

__all__ = ["RealServiceRefused"]
