"""Node programs: a file that Node loads before them, and that leads what they send to the real hosts to the fake one.

It is plain CommonJS, made for Node 18 or later, and meets ``fetch``, ``http`` and ``https``. Where a program heeds
``HTTPS_PROXY`` or ``ANTHROPIC_BASE_URL`` by itself, it is not needed.
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
    """A value for ``NODE_OPTIONS``: what it is ``before`` (by default in ``os.environ``), and then the preload."""
    given = os.environ.get(_OPTIONS, "") if before is None else before
    path = str(preload()).replace("\\", "\\\\").replace('"', '\\"')  # as Node reads it: quotes, and \ inside them
    option = f'--require "{path}"'
    return given if option in given else f"{given} {option}".strip()


def added(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to :meth:`ClaudeTokens.env`, so that Node programs meet the fake whatever they do to that."""
    return {_OPTIONS: node_options(environment.get(_OPTIONS, "")), _URL: environment[_BASE_URL]}
