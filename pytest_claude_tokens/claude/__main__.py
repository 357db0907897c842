"""``python -m pytest_claude_tokens.claude``, and the file that the script ``claude`` on ``PATH`` runs by its path."""

from __future__ import annotations

import sys

if not __package__:  # run as a file under -I -S: sys.path has the standard library alone
    sys.path.append(__file__.rpartition("/pytest_claude_tokens/")[0])

from pytest_claude_tokens.claude.main import entry

entry()
