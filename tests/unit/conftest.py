"""What the tests of several folders here need."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens


@pytest.fixture
def tokens():
    """An open handle that is not judged: tests here break what they like."""
    handle = ClaudeTokens()
    handle.open()
    yield handle
    handle.close()
