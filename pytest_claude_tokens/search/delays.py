"""In words: who was held up in a run, for how long, and what that stands for in reality."""

from __future__ import annotations

from collections import defaultdict
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_claude_tokens.simulation.schedule import Delay

__all__ = ["told_delays"]

_LEAST_SECONDS = 1.0
"""Shorter delays only change an order, which is told as such."""


def told_delays(held: Iterable[Delay]) -> list[str]:
    """A line for each worker that was held up for a second or more, and one for its requests; the longest first."""
    seconds_of: dict[tuple[int, bool], float] = defaultdict(float)
    for worker, why, seconds in held:
        seconds_of[worker, why == "slow"] += seconds
    told = sorted(
        (-seconds, worker, slow) for (worker, slow), seconds in seconds_of.items() if seconds >= _LEAST_SECONDS
    )
    lines = [_told(worker, -seconds, slow=slow) for seconds, worker, slow in told]
    if told and -told[0][0] > 2 * _LEAST_SECONDS:
        lines[0] += f"; a lease of {ceil(-told[0][0]) - 1} s does not survive that"
    return lines


def _told(worker: int, seconds: float, *, slow: bool) -> str:
    who = f"w{worker}" if worker >= 0 else "the body"
    if slow:
        return f"{who} was slow for {seconds:.4g} s: suspended, starved or swapped out"
    return f"{who} waited {seconds:.4g} s longer for its replies"
