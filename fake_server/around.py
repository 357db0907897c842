"""Context managers written as generators, which leave the exception that passes through them alone.

Those of ``contextlib`` assign to it (``__traceback__``). A class of the user's may refuse that, as a frozen dataclass
does: he would read of the refusal in place of his own error.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import TracebackType

__all__ = ["around"]

P = ParamSpec("P")
T = TypeVar("T")


def around(function: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Like ``contextlib.contextmanager``: ``function`` is a generator that yields once, where the block runs."""

    @wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        return _Around(function(*args, **kwargs))  # type: ignore[arg-type]  # a generator is annotated as an iterator

    return made


class _Around(AbstractContextManager[T]):
    def __init__(self, steps: Generator[T, None, None]) -> None:
        self._steps = steps

    def __enter__(self) -> T:
        return next(self._steps)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        __tracebackhide__ = True
        if error is None:
            next(self._steps, None)
            return False
        try:
            self._steps.throw(error)
        except BaseException as raised:
            if isinstance(raised, StopIteration) and raised is not error:
                return True
            if raised is error or (isinstance(error, StopIteration) and raised.__cause__ is error):
                return False  # a generator can't raise StopIteration itself
            raise
        return False  # pragma: no cover - it yields once
