"""A run in this process, with what it printed; and one as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from pytest_claude_tokens.cli import run as running

PATIENCE = 60.0
"""Seconds that a process of its own may take on a machine that is busy."""
NOTHING = "claude-tokens: UNKNOWN, 0 requests\n\nverdict no request reached the service, so nothing was proved\n\n"
"""How that begins which is told of a command that had nothing to do with tokens; the history follows."""


@dataclass
class Ended:
    """What is left of a run."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capfd):
    """Call the command line in this process; returns how it ended."""

    def call(*arguments) -> Ended:
        capfd.readouterr()
        status = running.main([str(argument) for argument in arguments])
        return Ended(status, *capfd.readouterr())

    return call


@pytest.fixture
def start():
    """Start the command line as a process of its own; ended with the test."""
    started = []

    def begin(*arguments, **options) -> subprocess.Popen:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "pytest_claude_tokens", *map(str, arguments)]
        process = subprocess.Popen(command, **{"stdout": pipe, "stderr": pipe, "text": True} | options)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.fixture
def handle(monkeypatch):
    """The handle of the next run, as soon as there is one, in a list."""
    made = []

    class Seen(running.ClaudeTokens):
        def open(self):
            made.append(self)
            return super().open()

    monkeypatch.setattr(running, "ClaudeTokens", Seen)
    return made
