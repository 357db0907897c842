"""Checkers, in preparation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_claude_tokens.history import History
    from pytest_claude_tokens.violations import Violation


def check_starvation(history: History) -> Iterable[Violation]:
    """Finds nothing yet."""
    return ()


def check_token_leak(history: History) -> Iterable[Violation]:
    """Finds nothing yet."""
    return ()
