"""The lines of ``claude-tokens`` in pytest's terminal summary, made of the facts that travel with the test reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_claude_tokens.judge.wording import count

__all__ = ["broken", "marks", "summary"]

_LISTED_TESTS = 10
"""Explored tests that the summary names by default: those with the fewest schedules."""
_MARGIN = "    "


def summary(facts: Sequence[Mapping[str, Any]], *, every: bool = False) -> Sequence[str]:
    """The lines at the end of a run; none unless a test used the plugin.

    A test's ``explored`` holds ``schedules``, their number, and ``summary``, the sentence shown for the test. Where
    some were explored, the first line counts those, and a last one all others. A test that was run again has several
    facts, and is one test.
    """
    if not facts:
        return []
    explored = [fact for fact in facts if "explored" in fact]
    schedules = sum(fact["explored"]["schedules"] for fact in explored)
    violations = sum(len(fact.get("violations", ())) for fact in facts)
    counts = [count(_tests(explored or facts), "test")]
    counts += [count(schedules, "schedule")] if explored else []
    others = _tests(facts) - _tests(explored) if explored else 0
    by_effort = sorted(explored, key=lambda fact: int(fact["explored"]["schedules"]))
    shown = by_effort if every else by_effort[:_LISTED_TESTS]
    return [
        f"claude-tokens: {', '.join([*counts, count(violations, 'violation')])}",
        *(f"  {fact['test']}: {fact['explored']['summary']}" for fact in shown),
        *([f"  and {count(others, 'test')} without a search"] if others else []),
    ]


def _tests(facts: Sequence[Mapping[str, Any]]) -> int:
    return len({fact["test"] for fact in facts})


def broken(facts: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """For each test that broke an invariant, or failed by itself in a search: with what, how to run it again, and where
    its history is.
    """
    lines = []
    for fact in facts:
        headlines = [*fact.get("violations", ()), *fact.get("failures", ())]
        if headlines:
            lines.append(f"  {fact['test']}")
            lines += [_MARGIN + headline.partition("\n")[0] for headline in headlines]
            lines += [f"{_MARGIN}replay  {replay}" for replay in dict.fromkeys(fact.get("replay", ()))]
            lines += [f"{_MARGIN}see     {folder}/" for folder in dict.fromkeys(fact.get("folders", ()))]
    return lines


def marks(facts: Sequence[Mapping[str, Any]], root: str) -> Sequence[str]:
    """The commands by which GitHub's log marks a file's line: one for each violation.

    ``root``: the folder of the repository; the paths of files are told from there.
    """
    lines = []
    for fact in facts:
        path = str(fact.get("file", ""))
        path = path.removeprefix(root.rstrip("/") + "/") if root else path
        remedy = [f"replay  {replay}" for replay in dict.fromkeys(fact.get("replay", ()))]
        for headline in fact.get("violations", ()):
            title, _, text = headline.partition(": ")
            place = f"file={_property(path)},line={fact.get('line', 1)},title={_property(title)}"
            message = "\n".join([f"{fact['test']}: {text}", *remedy])
            lines.append(f"::error {place}::{_message(message)}")
    return lines


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
