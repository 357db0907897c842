"""The state of one pytest session in ``config.stash``: the running test, and the judge that the hooks call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

__all__ = ["COMMAND", "CURRENT", "ENDED", "INSIDE", "JUDGE", "Judge", "current"]

CURRENT = pytest.StashKey[pytest.Item]()
"""In the config: the running test."""

ENDED = pytest.StashKey[BaseException | None]()
"""In an item, during its call: the error that its body ended with."""

COMMAND = pytest.StashKey[Callable[[pytest.Item], str]]()
"""In the config: what returns the shell command that runs a test again."""

INSIDE = pytest.StashKey[bool]()
"""In the config: this session runs inside a test of another session."""


class Judge(Protocol):
    """Judges a test when its body has ended, and adds its findings to the test's reports."""

    def judge(self, item: pytest.Item, error: BaseException | None) -> BaseException | None:
        """The error that replaces ``error``, with which the body ended; ``None``: the result stays as it is."""

    def tell(self, item: pytest.Item, error: BaseException | None, made: pytest.TestReport) -> None:
        """Add the findings to the report of a phase, which ended with ``error``."""


JUDGE = pytest.StashKey[Judge]()
"""In the config: the judge, put there by the code that makes the first handle, before the handle is open.

The hooks take it from here and look for no module by its name: a module that was renamed, or taken out of
``sys.modules``, would leave every test unjudged without a word.
"""


def current(config: pytest.Config) -> pytest.Item:
    """The running test. Raises :class:`pytest.UsageError` if this is not the module object that the hooks use."""
    item = config.stash.get(CURRENT, None)
    if item is None:
        raise pytest.UsageError(
            "pytest_claude_tokens was imported a second time while its plugin was in use, so this test is not judged: "
            "code that deletes its modules from sys.modules must leave them there"
        )
    return item
