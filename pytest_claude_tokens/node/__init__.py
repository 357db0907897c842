"""A file that Node loads before a program, and that redirects requests for the real hosts to the fake service.

The file is plain CommonJS for Node 18 or later, and wraps ``fetch``, ``http`` and ``https``. A program that heeds
``HTTPS_PROXY`` or ``ANTHROPIC_BASE_URL`` by itself does not need it.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["added", "node_options", "preload"]

_OPTIONS = "NODE_OPTIONS"
_BASE_URL = "ANTHROPIC_BASE_URL"
_URL = "CLAUDE_TOKENS_URL"


def preload() -> Path:
    """The file for Node's ``--require``."""
    return Path(str(files("pytest_claude_tokens"))) / "node" / "preload.cjs"


def node_options(before: str | None = None) -> str:
    """A value for ``NODE_OPTIONS``: the options ``before`` (by default those of ``os.environ``), then the preload."""
    given = os.environ.get(_OPTIONS, "") if before is None else before
    path = str(preload()).replace("\\", "\\\\").replace('"', '\\"')  # Node's syntax: \ escapes inside quotes
    option = f'--require "{path}"'
    return given if option in given else f"{given} {option}".strip()


def added(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that :meth:`pytest_claude_tokens.handle.claude_tokens.ClaudeTokens.env` adds for Node programs.

    With them, Node programs reach the fake even if they set another base URL.
    """
    return {_OPTIONS: node_options(environment.get(_OPTIONS, "")), _URL: environment[_BASE_URL]}
