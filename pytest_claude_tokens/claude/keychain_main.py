"""The file that the script ``security`` on ``PATH`` runs by its path."""

from __future__ import annotations

import sys

if not __package__:
    sys.path.append(__file__.rpartition("/pytest_claude_tokens/")[0])

from pytest_claude_tokens.claude.keychain import entry

entry()
