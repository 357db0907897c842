from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, assert_type

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
