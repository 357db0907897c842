"""Each checker against a plain re-implementation: the same findings, and the same requests are guilty."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import CHECKERS, judge
from tests.unit.judge.slow import Finding, Slow
from tests.unit.judge.unruly import by_chance

WITHOUT_PAIR = ("missing-bearer", "lost-rotation", "forced-login", "store-regression")
"""Invariants whose guilt is not that of two requests."""
WITHOUT_EXCUSE = ("missing-bearer", "lost-rotation", "forced-login")
GOLDEN = sorted((Path(__file__).parents[2] / "histories").glob("*.jsonl"))


def quick(history: History) -> list[Finding]:
    """What the checkers find, in no order."""
    return sorted(
        Finding(
            name,
            found.seq,
            () if name in WITHOUT_PAIR else tuple(op.opened for op in found.operations),
            None if name in WITHOUT_EXCUSE else bool(found.excuse),
        )
        for name, check in CHECKERS.items()
        for found in check(history)
    )


def compare(history: History, seed: int | None = None) -> None:
    """Both judges on one history."""
    assert quick(history) == sorted(Slow(history).findings()), f"by_chance({seed})"
    assert not [note for note in judge(history).notes if note.why == "crashed"]


@pytest.mark.parametrize(
    "seeds", [range(n, n + 50) for n in range(0, 300, 50)], ids=lambda seeds: f"from {seeds.start}"
)
def test_both_find_the_same(seeds):
    """In whatever workers without manners do to any policy."""
    for seed in seeds:
        compare(by_chance(seed), seed)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_both_find_the_same_in_ten_thousand_histories():
    """The same, for as many as a night has time for."""
    for seed in range(1000, 11_000):
        compare(by_chance(seed), seed)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_both_find_the_same_in_the_golden_histories(path):
    """Each of which shows one thing."""
    compare(History.load(path))
