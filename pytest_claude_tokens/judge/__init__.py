"""The judge: pure functions from a history to its verdict. It runs nothing, serves nothing, and knows no pytest.

``History.load(path)`` reads a history file, and ``judge(history)`` judges it.
"""

from __future__ import annotations

from pytest_claude_tokens.judge.history import History, Operation
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.judge.verdict import Note, State, Verdict

__all__ = ["History", "Note", "Operation", "State", "Verdict", "judge"]
