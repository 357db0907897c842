"""What is registered in a test is forgotten after it."""

from __future__ import annotations

import sys

import pytest

from pytest_claude_tokens.workarounds import catalogue  # noqa: F401 - registers those built in
from pytest_claude_tokens.workarounds.registry import REGISTRY


@pytest.fixture(autouse=True)
def registry():
    """The registry, as it was before the test again afterwards."""
    before = dict(REGISTRY)
    yield REGISTRY
    REGISTRY.clear()
    REGISTRY.update(before)
    sys.modules.pop("mine", None)
