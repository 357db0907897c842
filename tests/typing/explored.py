"""Types of ``explore``, as a user's type checker sees them: read by mypy with all the tests, by pyright in a test.

A wrong use is marked for both; either complains of a mark that it doesn't need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from hypothesis import settings
from hypothesis import strategies as st

from fake_server import Fault
from pytest_claude_tokens import ClaudeTokens, Workers, explore


@explore()
async def tasks(claude_tokens: ClaudeTokens, workers: Workers) -> None:
    """The plainest body."""


@settings(max_examples=20)
@explore(workers=3, faults=[Fault.RESET], kills=True)
def threads(claude_tokens: ClaudeTokens, workers: Workers, folder: str, *, port: int = 0) -> None:
    """With two fixtures, under settings of Hypothesis."""


@explore(processes=True, kills=[9, 15])
def processes(folder: str, claude_tokens: ClaudeTokens, workers: Workers, port: int) -> None:
    """With a fixture before what is given, and one behind it."""


class TestMethod:
    """A body that is a method."""

    @explore()
    async def test_it(self, claude_tokens: ClaudeTokens, workers: Workers, folder: str) -> None:
        """With a fixture."""


@explore(n=st.integers())
async def drawn(claude_tokens: ClaudeTokens, workers: Workers, n: int, folder: str) -> None:
    """With a strategy."""


@explore(exhaustive=1)
async def in_another_order(workers: Workers, folder: str, claude_tokens: ClaudeTokens) -> None:
    """Not given in the usual order."""


@explore()
async def without_types(claude_tokens, workers):
    """As most tests are written."""


# What is left of each signature.

assert_type(tasks, Callable[[], None])
assert_type(threads("folder", port=3), None)
assert_type(threads(folder="folder"), None)
assert_type(processes("folder", port=3), None)
assert_type(TestMethod().test_it(folder="folder"), None)
assert_type(drawn, Callable[..., None])
assert_type(in_another_order, Callable[..., None])
without_types()

# What can't be right.

tasks(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
threads()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
threads(folder=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
explore(tasks)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
explore(workers="3")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
explore(n=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
explore()(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
