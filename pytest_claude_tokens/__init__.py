"""A fake Claude token service for pytest, which searches the interleavings of your dispatcher.

Each name is imported when it is first asked for: loading this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
    from pytest_claude_tokens.search.explore import explore
    from pytest_claude_tokens.search.signatures import Workers

__all__ = ["ClaudeTokens", "Workers", "explore"]

_MODULES = {
    "ClaudeTokens": "pytest_claude_tokens.handle.claude_tokens",
    "Workers": "pytest_claude_tokens.search.signatures",
    "explore": "pytest_claude_tokens.search.explore",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
