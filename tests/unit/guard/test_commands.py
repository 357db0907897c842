from __future__ import annotations

import pathlib

import pytest

from pytest_claude_tokens.guard.commands import runs_claude, words


@pytest.mark.parametrize(
    "command",
    [
        ["claude"],
        ["/usr/local/bin/claude", "-p", "x"],
        ["sh", "-c", "claude -p x"],
        ["bash", "-ec", "cd /tmp && A=1 claude -p 'x y'"],
        ["/bin/bash", "-e", "-c", "true\nclaude"],
        ["sh", "-c", "(claude)"],
        ["sh", "-c", "echo x | timeout 5 claude -p"],
        ["flock", "-w", "600", "/tmp/lock", "claude", "-p"],
        ["env", "A=1", "/opt/claude"],
        ["timeout", "5", "sh", "-c", "claude"],
        ["bash", "-c", "exec claude"],
        ["bash", "-c", "cd / && exec -c -a name claude -p x"],
        ["sh", "-c", "command -p claude"],
        ["sh", "-c", "exec env A=1 claude"],
        ["sh", "-c", "time claude"],
        ["sh", "-c", "if ! claude -p x; then exit 1; fi"],
        ["sh", "-c", "{ claude; }"],
        ["sh", "-c", "eval 'claude -p x'"],
    ],
)
def test_a_command_that_starts_claude_is_known(command):
    """By itself, through a shell, through the usual wrappers."""
    assert runs_claude(command)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["claude-tokens", "serve"],
        ["echo", "claude"],
        ["grep", "-r", "claude", "."],
        ["sh", "-c", "echo claude; which claude"],
        ["sh", "script.sh", "claude"],
        ["sh", "-c"],
        ["bash", "--norc"],
        ["sh", "-c", "echo 'unfinished claude"],
        ["sh", "-c", ""],
        ["flock", "-w", "1", "/tmp/claude.lock", "echo"],
        ["python", "-c", "claude"],
        ["sh", "-c", "command -v claude || exit 1"],
        ["sh", "-c", "exec grep -r claude ."],
        ["sh", "-c", "exec -a claude sleep 1"],
        ["sh", "-c", "exec"],
        ["sh", "-c", "if test -d claude; then echo claude; fi"],
    ],
)
def test_a_command_that_only_speaks_of_claude_is_not(command):
    """A false alarm here would break a suite that does nothing wrong."""
    assert not runs_claude(command)


def test_arguments_come_in_many_forms():
    """One text, bytes, paths, and things that are no arguments at all."""
    assert words("claude") == ["claude"]
    assert words(b"claude") == ["claude"]
    assert words(pathlib.Path("/a")) == ["/a"]
    assert words(["a", b"b", pathlib.Path("c"), 4]) == ["a", "b", "c"]
    assert words(None) == []
