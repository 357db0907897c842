"""Usage errors of the plugin without frames, whose locals could show a secret that a user pasted."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

from pytest_claude_tokens.late_secrecy import discreet

__all__ = ["discreet_usage"]

P = ParamSpec("P")
R = TypeVar("R")


def discreet_usage(function: Callable[P, R]) -> Callable[P, R]:
    """:func:`fake_server.secrecy.discreet`, which also always takes the frames off a :class:`pytest.UsageError`.

    ``pytest --showlocals`` would print their locals, among them the values of a marker or an option.
    """
    return discreet(function, always=(pytest.UsageError,))
