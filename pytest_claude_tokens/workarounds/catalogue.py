"""Every workaround that is built in: importing this module registers them, in the order of the table."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_claude_tokens.workarounds import pools

# isort: split
from pytest_claude_tokens.workarounds import agents
from pytest_claude_tokens.workarounds.registry import REGISTRY, Workaround

__all__ = ["BREAKS", "BUILT_IN", "all_workarounds"]

BUILT_IN: tuple[str, ...] = (
    "none",
    "round-robin-tokens",
    "token-per-worker",
    "checkout-pool",
    "dispatch-queue",
    "flock-wrapper",
    "shared-config-dir",
    "container-home",
    "copied-credentials",
    "symlinked-dir",
    "symlinked-file",
    "setup-token",
)
"""Their names, in the order of the table."""

BREAKS: Mapping[str, str] = {
    "none": "nobody looks out for anybody",
    "round-robin-tokens": "a job can outlive a whole round",
    "shared-config-dir": "calls overlap on the one bearer",
    "container-home": "each home has a lock of its own",
    "copied-credentials": "all copies hold one refresh token",
    "symlinked-dir": "calls overlap on the one bearer",
    "symlinked-file": "a refresh replaces the link by a file",
    "setup-token": "calls overlap on the one bearer",
}
"""Those that break, and why: what the tests of them expect. The table itself is the result of a search."""

_MODULES = (pools, agents)


def all_workarounds() -> list[Workaround]:
    """Those built in, then those of plugins."""
    built_in = [REGISTRY[name] for name in BUILT_IN]
    return [*built_in, *(one for name, one in REGISTRY.items() if name not in BUILT_IN)]
