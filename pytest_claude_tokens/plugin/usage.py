"""Usage errors of the plugin without frames, whose locals could show a secret that a user pasted.

The service's rule for secrets is imported when it is first needed, so that loading the plugin stays cheap.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

__all__ = ["discreet_usage", "safe_text", "shown"]

P = ParamSpec("P")
R = TypeVar("R")


def discreet_usage(function: Callable[P, R]) -> Callable[P, R]:
    """:func:`fake_server.secrecy.discreet`, which also always takes the frames off a :class:`pytest.UsageError`.

    ``pytest --showlocals`` would print their locals, among them the values of a marker or an option.
    """

    @functools.wraps(function)
    def entry(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except Exception as error:
            from fake_server.secrecy import cleaned

            refused = cleaned(error, [*args, kwargs], (pytest.UsageError,))
            if refused is None:
                raise
        del args, kwargs
        raise refused from None

    return entry


def shown(value: object) -> str:
    """``value`` as an error quotes it: a secret's kind and length in its place."""
    from fake_server import secrecy

    return secrecy.shown(value)


def safe_text(text: str) -> str:
    """``text`` with its secrets redacted."""
    from fake_server import secrecy

    return secrecy.safe_text(text)
