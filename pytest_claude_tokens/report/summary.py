"""The lines of ``claude-tokens`` in pytest's terminal summary: how many schedules each explored test ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_claude_tokens.judge.wording import count

__all__ = ["summary"]

_LISTED_TESTS = 10
"""Explored tests that the summary names by default: those with the fewest schedules."""


def summary(facts: Iterable[Mapping[str, Any]], *, every: bool = False) -> Sequence[str]:
    """The lines at the end of a run, from the facts that travel with the reports; none unless a test was explored.

    A test's ``explored`` holds ``schedules``, their number, and ``summary``, the sentence shown for the test.
    """
    explored = [fact for fact in facts if "explored" in fact]
    if not explored:
        return []
    schedules = sum(fact["explored"]["schedules"] for fact in explored)
    violations = sum(len(fact.get("violations", ())) for fact in explored)
    tests, broken = count(len(explored), "test"), count(violations, "violation")
    by_effort = sorted(explored, key=lambda fact: int(fact["explored"]["schedules"]))
    shown = by_effort if every else by_effort[:_LISTED_TESTS]
    return [
        f"claude-tokens: {tests}, {count(schedules, 'schedule')}, {broken}",
        *(f"  {fact['test']}: {fact['explored']['summary']}" for fact in shown),
    ]
