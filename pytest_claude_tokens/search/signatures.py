"""Types for a type checker: the argument ``workers``, and the decorator that ``explore()`` returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
    from pytest_claude_tokens.processes.worker import WorkerProcess

__all__ = ["Decorator", "Workers"]

P = ParamSpec("P")
First = TypeVar("First")


class Workers(Protocol):
    """The argument ``workers`` of an explored test; ``len(workers)`` is the number of workers.

    Called with one function, it runs that in every worker, ``per_worker`` times at once; with several, one in each. It
    returns the results in order of worker, and is awaited in an ``async def``. With ``processes=True`` it takes
    commands, and returns the processes when all have ended.
    """

    @overload
    def __call__(self, *functions: Callable[[], object], per_worker: int = 1) -> Any: ...

    @overload
    def __call__(
        self, *commands: Sequence[str], config_dir: Any = None, account: Any = None, env: Any = None
    ) -> list[WorkerProcess]: ...

    def __len__(self) -> int: ...


class Decorator(Protocol):
    """The decorator that ``explore()`` returns: the test keeps its parameters, except those that a search provides.

    A type can express this only if the body is annotated and takes ``claude_tokens`` and then ``workers``, first or
    after one other parameter (``self``). Any other test, and one with strategies, is typed as callable with anything:
    ``ParamSpec`` can't remove a parameter by name. pytest uses the signature at run time, which is always exact.
    """

    @overload
    def __call__(self, body: Callable[Concatenate[ClaudeTokens, Workers, P], object], /) -> Callable[P, None]: ...

    @overload
    def __call__(
        self, body: Callable[Concatenate[First, ClaudeTokens, Workers, P], object], /
    ) -> Callable[Concatenate[First, P], None]: ...

    @overload
    def __call__(self, body: Callable[..., object], /) -> Callable[..., None]: ...
