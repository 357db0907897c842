"""Finds out which client libraries are installed."""

from __future__ import annotations

import functools
import importlib.util
import sys

__all__ = ["importable"]


def importable(name: str) -> bool:
    """Whether ``import name`` would find a module; does not import it."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return _can_be_found(name)


@functools.cache
def _can_be_found(name: str) -> bool:
    """Asked once: the finders look through all folders, and each test wants to know."""
    return importlib.util.find_spec(name) is not None
