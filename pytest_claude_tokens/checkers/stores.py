"""Checkers, in preparation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_claude_tokens.history import History
    from pytest_claude_tokens.violations import Violation


def check_forced_login(history: History) -> Iterable[Violation]:
    """Finds nothing yet."""
    return ()


def check_lost_rotation(history: History) -> Iterable[Violation]:
    """Finds nothing yet."""
    return ()


def check_store_regression(history: History) -> Iterable[Violation]:
    """Finds nothing yet."""
    return ()
