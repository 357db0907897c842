"""Recorded histories with their verdicts: what was judged so once is judged so for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_server.tokens import TOKEN
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.violations import INVARIANTS

FOLDER = Path(__file__).parents[2] / "histories"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_history_keeps_its_verdict(name):
    """State, exit status, violations in their order, and notes, word for word."""
    verdict = judge(History.load(FOLDER / name))

    assert EXPECTED[name] == {
        "state": verdict.state,
        "exit_status": verdict.exit_status,
        "violations": [f"{violation.invariant}: {violation}" for violation in verdict.violations],
        "notes": [str(note) for note in verdict.notes],
    }


def test_every_recorded_history_has_a_verdict():
    """None is forgotten."""
    assert sorted(path.name for path in FOLDER.glob("*.jsonl")) == sorted(EXPECTED)


def test_every_invariant_is_broken_in_one_of_them():
    """The collection has an example of each."""
    broken = {line.partition(":")[0] for verdict in EXPECTED.values() for line in verdict["violations"]}

    assert broken == set(INVARIANTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_no_recorded_history_holds_a_token(name):
    """Labels only."""
    text = (FOLDER / name).read_text(encoding="utf-8")

    assert TOKEN.search(text) is None
    assert "sk-ant" not in text
