"""All scenarios, in the order of their kinds: importing this module fills the registry."""

from __future__ import annotations

from types import ModuleType

from pytest_claude_tokens.scenarios import answering, refreshing, storing, timing
from pytest_claude_tokens.scenarios.registry import SCENARIOS

__all__ = ["SCENARIOS"]

_MODULES: tuple[ModuleType, ...] = (refreshing, storing, answering, timing)
SCENARIOS.update(
    {
        name: SCENARIOS.pop(name)
        for module in _MODULES
        for name in [one.name for one in SCENARIOS.values() if one.body.__module__ == module.__name__]
    }
)
