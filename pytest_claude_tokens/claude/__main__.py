"""``python -m pytest_claude_tokens.claude``, and the file that the ``claude`` on ``PATH`` runs by its name."""

from __future__ import annotations

import sys

if not __package__:  # run as a file under -I -S, with nothing but the standard library to be found
    sys.path.append(__file__.rpartition("/pytest_claude_tokens/")[0])

from pytest_claude_tokens.claude.main import entry

entry()
