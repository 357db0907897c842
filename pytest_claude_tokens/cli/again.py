"""How a person runs one of our commands again."""

from __future__ import annotations

import os
import shlex
import sys

__all__ = ["again"]


def again(command: str) -> str:
    """The shell command that runs ``command`` again from the current folder."""
    name = sys.argv[0]
    if os.path.basename(name).startswith("claude-tokens") and os.access(name, os.X_OK):
        return f"{shlex.quote(name)} {command}"
    return f"{shlex.quote(sys.executable)} -m pytest_claude_tokens {command}"
