"""Searches here end soon: each run of theirs starts processes."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.search import confirm


@pytest.fixture
def brief(monkeypatch):
    """Little time is spent on shortening and repeating what fails."""
    monkeypatch.setattr(confirm, "_PROCESS_SHRINK_RUNS", 2)
    monkeypatch.setattr(confirm, "_PROCESS_REPEATS", 2)
