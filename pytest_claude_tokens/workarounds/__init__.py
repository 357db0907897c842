"""Which workaround holds, under which failure: each is a small dispatcher, examined by a search, and a row of a table.

A plugin such as ::

    from pytest_claude_tokens.workarounds import workaround

    @workaround("my-pool")
    class MyPool:
        def __init__(self, accounts): ...
        async def call(self): ...

adds a row to ``claude-tokens workarounds --plugin FILE``, and ``test_my_pool = as_test(MyPool)`` is a test of it. The
rows that are built in are tests, too: ``pytest --pyargs pytest_claude_tokens.workarounds``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_claude_tokens.workarounds.registry import Workaround, workaround

if TYPE_CHECKING:
    from pytest_claude_tokens.workarounds.explored import as_test

__all__ = ["Workaround", "as_test", "workaround"]


def __getattr__(name: str) -> object:
    """``as_test``, which brings the search along, is imported when it is asked for."""
    if name == "as_test":
        from pytest_claude_tokens.workarounds.explored import as_test

        return as_test
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
