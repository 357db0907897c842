"""What the examination of one workaround brought to light, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fake_server.secrecy import safe_text
from pytest_claude_tokens.judge.violations import INVARIANTS, STORE_INVARIANTS, Violation

__all__ = ["Examined", "Judged"]

Judged = Literal["holds", "breaks", "n/a", "unknown"]

_REFRESHING = frozenset(
    {"double-spend", "blind-replay", "lost-rotation", "forced-login", "stale-bearer", "refresh-storm"}
)


@dataclass(slots=True, kw_only=True)
class Examined:
    """What the examination of a workaround brought to light.

    ``broken`` and ``replay`` have, by invariant, the reason in one line and the token. ``failed``: why no verdict can
    be given on what did not break; empty where it can. ``in_play``: what the search varied.
    """

    examined: Literal["simulated", "processes"]
    schedules: int = 0
    histories: int = 0
    kinds: set[str] = field(default_factory=set)
    stores: bool = False
    unknown_outcomes: bool = False
    broken: dict[str, str] = field(default_factory=dict)
    replay: dict[str, str] = field(default_factory=dict)
    failed: str = ""
    in_play: list[str] = field(default_factory=list)
    stand_in: str = ""

    def add(self, violation: Violation, token: str, where: str = "") -> None:
        """A run broke ``violation`` and those that it lists; of each invariant the first is kept."""
        for one in (violation, *violation.others):
            if one.invariant not in self.broken:
                self.broken[one.invariant] = safe_text(f"{one.cause or one.headline}{where}")
                self.replay[one.invariant] = token

    def verdict(self, invariant: str) -> Judged:
        """What is to be said of one invariant."""
        if invariant in self.broken:
            return "breaks"
        if self.failed:
            return "unknown"
        if not self._in_question(invariant):
            return "n/a"
        return "holds"

    def _in_question(self, invariant: str) -> bool:
        """Whether what happened could have broken it."""
        if invariant in _REFRESHING and "token" not in self.kinds:
            return False
        if invariant in STORE_INVARIANTS and not self.stores:
            return False
        return invariant != "blind-replay" or self.unknown_outcomes

    @property
    def invariants(self) -> dict[str, Judged]:
        """The verdict on each invariant."""
        return {name: self.verdict(name) for name in INVARIANTS}
