"""What is raised when an invariant is broken, by name: for ``pytest.raises`` and for reports of your own."""

from __future__ import annotations

from pytest_claude_tokens.judge.violations import (
    DEFAULT,
    INVARIANTS,
    STORE_INVARIANTS,
    VIOLATIONS,
    BlindReplay,
    CoSchedule,
    Deadlock,
    DoubleSpend,
    ForcedLogin,
    LostRotation,
    MissingBearer,
    Nondeterministic,
    NothingRaced,
    RefreshStorm,
    StaleBearer,
    Starvation,
    StoreRegression,
    TokenLeak,
    Unknown,
    Violation,
)

__all__ = [
    "DEFAULT",
    "INVARIANTS",
    "STORE_INVARIANTS",
    "VIOLATIONS",
    "BlindReplay",
    "CoSchedule",
    "Deadlock",
    "DoubleSpend",
    "ForcedLogin",
    "LostRotation",
    "MissingBearer",
    "Nondeterministic",
    "NothingRaced",
    "RefreshStorm",
    "StaleBearer",
    "Starvation",
    "StoreRegression",
    "TokenLeak",
    "Unknown",
    "Violation",
]
