"""``python -m pytest_claude_tokens``: the same as ``claude-tokens``."""

from __future__ import annotations

import sys

from pytest_claude_tokens.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
