"""Finds out which client libraries are installed."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["importable"]


def importable(name: str) -> bool:
    """Whether ``import name`` would find a module; does not import it."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None
