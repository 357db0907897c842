"""``python -m fake_server``: the same as ``claude-tokens serve``."""

from __future__ import annotations

import importlib
import sys

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal; returns the exit status."""
    # The service knows no judge. Whoever starts it here wants one, so it is looked up by name, and only now.
    serving = importlib.import_module("pytest_claude_tokens.cli.serve")
    status: int = serving.main(argv, prog="python -m fake_server")
    return status


if __name__ == "__main__":
    sys.exit(main())
