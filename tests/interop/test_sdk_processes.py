"""The official SDK in processes of its own that share one credentials file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("anthropic", reason="needs the official SDK (the extra `test`)")

from pytest_claude_tokens.violations import DoubleSpend
from tests.interop.sdk import login_file

PROGRAM = Path(__file__).with_name("sdk.py")
PATIENCE = 60


def start(tokens: Any, worker: str, file: Path) -> Any:
    """A process that makes one call as that worker, at the URL that its environment names."""
    return tokens.spawn([sys.executable, str(PROGRAM), str(file)], worker=worker)


def test_two_processes_on_one_file_spend_one_refresh_token_twice(claude_server):
    """There is no lock between processes: the loser's refresh is refused, and its call fails."""
    file = login_file(claude_server, claude_server.account(expired=True))
    with claude_server.hold("token", 2):
        processes = [start(claude_server, worker, file) for worker in ("w0", "w1")]
        codes = [process.wait(PATIENCE) for process in processes]
    with pytest.raises(DoubleSpend, match=r"rt#1 by w[01] .* and w[01]"):
        claude_server.check()
    assert sorted(codes) == [0, 1]
    winner, loser = sorted(processes, key=lambda process: process.returncode)
    assert winner.stdout == "A\n"
    assert "invalid_grant" in loser.stderr or "400" in loser.stderr
