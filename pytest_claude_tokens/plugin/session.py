"""What one session of pytest keeps in ``config.stash``: the test that runs, and the judge that the hooks ask."""

from __future__ import annotations

from typing import Protocol

import pytest

__all__ = ["CURRENT", "INSIDE", "JUDGE", "Judge", "current"]

CURRENT = pytest.StashKey[pytest.Item]()
"""In the config: the test that runs now."""

INSIDE = pytest.StashKey[bool]()
"""In the config: this session runs inside a test of another one."""


class Judge(Protocol):
    """Judges a test when its body has ended, and puts what it found into the test's reports."""

    def judge(self, item: pytest.Item, error: BaseException | None) -> BaseException | None:
        """What the body, which ended with ``error``, fails with instead; ``None``: it stays as it is."""

    def tell(self, item: pytest.Item, error: BaseException | None, made: pytest.TestReport) -> None:
        """Put what was found into the report of a phase, which ended with ``error``."""


JUDGE = pytest.StashKey[Judge]()
"""In the config: the judge, put there by the code that makes the first handle, before the handle is open.

The hooks take it from here and look for no module by its name: a module that was renamed, or taken out of
``sys.modules``, would leave every test unjudged without a word.
"""


def current(config: pytest.Config) -> pytest.Item:
    """The test that runs now. Raises :class:`pytest.UsageError` where this is not the module that the hooks use."""
    item = config.stash.get(CURRENT, None)
    if item is None:
        raise pytest.UsageError(
            "pytest_claude_tokens was imported a second time while its plugin was in use, so this test is not judged: "
            "code that deletes its modules from sys.modules must leave them there"
        )
    return item
