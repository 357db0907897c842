from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_type

import pytest

from fake_server.events import Event
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.handle.history_view import HistoryView
from pytest_claude_tokens.judge.history import History, Operation
from tests.unit.handle.requests_of import refresh


def test_it_says_all_that_a_history_says(tokens: ClaudeTokens) -> None:
    """Each public member of a `History` is one of the view's, but what only a file has, and a search adds."""
    public = {name for name in dir(tokens.history.taken()) if not name.startswith("_")}

    assert public - set(dir(HistoryView)) == {"load", "load_what_matters", "torn", "notes", "quiet", "with_facts"}


def test_it_answers_as_of_now_and_its_members_have_types(tokens: ClaudeTokens) -> None:
    """mypy checks each line; a member that were `Any` would fail there."""
    history = tokens.history
    account = tokens.account(expired=True)
    assert_type(history, HistoryView)
    assert assert_type(history.operations, list[Operation]) == []

    refresh(account.refresh_token)

    assert assert_type(history.header, Event).type == "header"
    assert assert_type(history.events, tuple[Event, ...])[-1].type == "ok"
    assert assert_type(history.operations, list[Operation])[0].refresh == "rt#1"
    assert list(assert_type(history.presentations, Mapping[tuple[str | None, str], Sequence[Operation]])) == [
        ("g#1", "rt#1")
    ]
    assert assert_type(history.policy, Mapping[str, Any])["name"] == "anthropic"
    assert assert_type(history.accounts, Mapping[str, str]) == {"g#1": "a1"}
    assert [event.f for event in assert_type(history.noted("login"), Sequence[Event])] == ["login"]
    assert assert_type(history.label("g#1", "rt#1"), str) == "rt#1"
    assert tuple(assert_type(iter(history), Iterator[Event])) == history.events
    assert assert_type(len(history), int) == len(history.events)
    assert assert_type(history.taken(), History) is history.taken()
    assert repr(history) == repr(history.taken())


def test_it_is_drawn_on_demand(tokens: ClaudeTokens, tmp_path: Path) -> None:
    """As far as it has come, whole or not at all; a pasted secret is no path."""
    secret = tokens.account(expired=True).refresh_token
    assert secret is not None
    tokens.timeline(tmp_path / "before.html")
    refresh(secret)
    tokens.timeline(str(tmp_path / "after.html"))
    before, after = ((tmp_path / f"{name}.html").read_text() for name in ("before", "after"))
    assert ("rt#2" in before, "rt#2" in after, secret in after) == (False, True, False)
    with pytest.raises(FileNotFoundError):
        tokens.timeline(tmp_path / "nowhere" / "it.html")
    with pytest.raises(ValueError, match=r"timeline\(\[a refresh token of 108 characters\]\): must"):
        tokens.timeline(secret)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.html", "before.html"]
