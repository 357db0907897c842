"""Types for a type checker: what ``workers`` is, and what ``@explore()`` makes of a function."""

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
    """The argument ``workers`` of an explored test; ``len(workers)`` is how many there are.

    Called with one function, it runs that in every worker, ``per_worker`` times at once; with several, one in each. It
    returns what they returned, by worker, and is awaited in an ``async def``. With ``processes=True`` it takes
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
    """What ``explore()`` returns: the test keeps its own parameters, less those that a search gives.

    A type can say so where the body is annotated, and takes ``claude_tokens`` and then ``workers``, first or after one
    other parameter (``self``). Any other test, and one that has strategies, may be called with anything: ``ParamSpec``
    takes no parameter off by its name. pytest goes by the signature at run time, which is always exact.
    """

    @overload
    def __call__(self, body: Callable[Concatenate[ClaudeTokens, Workers, P], object], /) -> Callable[P, None]: ...

    @overload
    def __call__(
        self, body: Callable[Concatenate[First, ClaudeTokens, Workers, P], object], /
    ) -> Callable[Concatenate[First, P], None]: ...

    @overload
    def __call__(self, body: Callable[..., object], /) -> Callable[..., None]: ...
