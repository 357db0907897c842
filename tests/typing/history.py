"""Types of ``tokens.history``, as a user's type checker sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, assert_type

from fake_server.events import Event
from pytest_claude_tokens import ClaudeTokens
from pytest_claude_tokens.judge import History, Operation


def test_types(claude_tokens: ClaudeTokens) -> None:
    """Nothing of it is ``Any``, but what JSON holds."""
    history = claude_tokens.history
    assert_type(history.taken(), History)
    assert_type(history.header, Event)
    assert_type(history.events, tuple[Event, ...])
    assert_type(history.operations, list[Operation])
    assert_type(history.presentations, Mapping[tuple[str | None, str], Sequence[Operation]])
    assert_type(history.policy, Mapping[str, Any])
    assert_type(history.accounts, Mapping[str, str])
    assert_type(history.noted("torn"), Sequence[Event])
    assert_type(history.label("g1", None), str)
    assert_type(iter(history), Iterator[Event])
    assert_type(len(history), int)
    history.notes_of_any_kind  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
