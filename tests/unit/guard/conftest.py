from __future__ import annotations

import pytest

from pytest_claude_tokens.guard import guard


@pytest.fixture
def guarded(monkeypatch):
    """The guard as the first handle finds it, and as it was before at the end."""
    was_active = guard._active
    monkeypatch.setattr(guard, "_hosts_allowed", False)
    guard.uninstall()
    yield guard
    guard.uninstall()
    monkeypatch.undo()
    if was_active:
        guard.install()
