"""The service's rule for secrets (:mod:`fake_server.secrecy`), imported when it is first needed.

For the plugin and the fake ``claude``, which must start fast: most runs of either need no rule, and the service takes
longer to import than they take to start.
"""

from __future__ import annotations

import functools

TYPE_CHECKING = False  # `typing` takes milliseconds to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["brief", "discreet", "is_path", "safe_text", "shown"]


def discreet(function: Callable[P, R], *, always: tuple[type[Exception], ...] = ()) -> Callable[P, R]:
    """As :func:`fake_server.secrecy.discreet`. Errors in ``always`` lose their frames in any case."""

    @functools.wraps(function)
    def entry(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except Exception as error:
            from fake_server.secrecy import cleaned

            refused = cleaned(error, [*args, kwargs], always)
            if refused is None:
                raise
        del args, kwargs
        raise refused from None

    return entry


def brief(*names: object) -> str:
    """Names that the user gave, for an error: of many or long ones the beginning and the end."""
    from fake_server import secrecy

    return secrecy.brief(*names)


def is_path(text: str) -> bool:
    """Whether ``text`` may be a file's path."""
    from fake_server import secrecy

    return secrecy.is_path(text)


def shown(value: object) -> str:
    """``value`` as an error quotes it: a secret's kind and length in its place."""
    from fake_server import secrecy

    return secrecy.shown(value)


def safe_text(text: str) -> str:
    """``text`` with its secrets redacted."""
    from fake_server import secrecy

    return secrecy.safe_text(text)
