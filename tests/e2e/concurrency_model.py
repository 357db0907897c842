"""What the tests of the concurrency model share: a layout, agents that start in it, and what the service saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_claude_tokens.layouts import LAYOUTS, Place, start
from pytest_claude_tokens.violations import CoSchedule, Violation

ASK = ["claude", "-p", "Reply: A"]
SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "concurrency-model"
PATIENCE = 45.0
"""Seconds of real time after which something will never happen."""
SCALE = 0.4
"""Of the real client's pauses: 1 to 2 s between two looks at a lock, 5 times."""

spared_by_bearer = pytest.mark.claude_tokens(allow=["co-schedule"])
"""One login has one bearer; that its calls overlap is another subject than its refresh."""


def dialect(name: str, scale: float = SCALE) -> dict[str, str]:
    """The environment of a release of the fake claude."""
    return {"CLAUDE_TOKENS_DIALECT": name, "CLAUDE_TOKENS_TIME_SCALE": str(scale)}


def prepared(tokens: Any, name: str, workers: int, account: Any = None) -> list[Place]:
    """A layout, with the fake claude on PATH. Skips the test where the machine can't make it."""
    layout = LAYOUTS[name]
    if layout.obstacle is not None:
        pytest.skip(f"the layout {name}: {layout.obstacle}")
    tokens.install_claude()
    return layout.prepare(tokens, workers, account)


def ended(processes: Sequence[Any]) -> list[tuple[int, str]]:
    """Exit status and output of each, when all have ended."""
    done = [(process.wait(PATIENCE), process.stdout) for process in processes]
    assert [process.stderr for process in processes] == [""] * len(processes)
    return done


def until(reached: Callable[[], object]) -> None:
    """Look again and again. Nothing depends on how long that takes."""
    never, limit = threading.Event(), time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < limit, "this did not happen"
        never.wait(0.01)


def posts(tokens: Any) -> list[tuple[str, int | None]]:
    """The refresh token of each token request, and the status that it was answered with."""
    return [(one.refresh, one.status) for one in tokens.history.operations if one.f == "token"]


def told(tokens: Any, event: str) -> list[str]:
    """Who told the event ``tengu_oauth_token_refresh_lock_EVENT``, in order."""
    return [one.worker for one in tokens.telemetry if one.event == f"tengu_oauth_token_refresh_lock_{event}"]


def contended(tokens: Any, places: Sequence[Place], env: dict[str, str]) -> list[tuple[int, str]]:
    """Agents of which one refreshes while all others have found the lock taken: the race, whatever the speed."""
    with tokens.hold("token", count=2):  # a second request would be let go with the first, and be seen
        processes = start(tokens, places, ASK, env)
        until(lambda: len({*told(tokens, "retry")}) == len(places) - 1 or len(posts(tokens)) > 1)
    return ended(processes)


def raised(tokens: Any) -> list[Violation]:
    """What was broken so far, as ``check()`` raises it, one by one; the end of the test raises none of it again."""
    found = []
    while True:
        try:
            tokens.check()
        except Violation as violation:
            found.append(violation)
        else:
            return found


def kinds(tokens: Any) -> list[str]:
    """The invariants that were broken so far, the first one first, each once; the overlap of calls left out."""
    return [*dict.fromkeys(one.invariant for one in raised(tokens) if not isinstance(one, CoSchedule))]
