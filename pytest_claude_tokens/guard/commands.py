"""Tells from the arguments of a command whether it starts ``claude``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from fake_server.genuine import os

__all__ = ["runs_claude", "words"]

_NAME = "claude"
_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh"))
_WRAPPERS = frozenset(
    ("env", "flock", "ionice", "nice", "nohup", "script", "setsid", "stdbuf", "sudo", "time", "timeout", "unshare")
)
"""Programs that start another program, named somewhere among their arguments."""

_PREFIXES = frozenset(("!", "{", "builtin", "command", "do", "elif", "else", "exec", "if", "then", "until", "while"))
"""Shell words that may precede a command."""


def words(arguments: object) -> list[str]:
    """The arguments of a process as strings, whatever their form."""
    if isinstance(arguments, (str, bytes, os.PathLike)):
        arguments = [arguments]
    if not isinstance(arguments, Iterable):
        return []
    return [os.fsdecode(word) for word in arguments if isinstance(word, (str, bytes, os.PathLike))]


def runs_claude(arguments: list[str]) -> bool:
    """Whether the command starts a program named ``claude``: directly, through a shell, or through a wrapper."""
    if not arguments:
        return False
    program, rest = os.path.basename(arguments[0]), arguments[1:]
    if program == _NAME:
        return True
    if program in _SHELLS:
        script = next((rest[at + 1 :] for at, word in enumerate(rest) if _takes_script(word)), [])
        return bool(script) and _script_runs_claude(script[0])
    if program in _PREFIXES:
        return runs_claude(_after_prefix(program, rest))
    if program == "eval":
        return _script_runs_claude(" ".join(rest))
    if program in _WRAPPERS:
        return any(runs_claude(rest[at:]) for at, word in enumerate(rest) if _could_start(word))
    return False


def _after_prefix(prefix: str, rest: list[str]) -> list[str]:
    """The command after ``prefix`` and its options; empty for ``command -v``, which only looks a program up."""
    while rest and rest[0].startswith("-"):
        if prefix == "command" and not {"v", "V"}.isdisjoint(rest[0]):
            return []
        rest = rest[2:] if prefix == "exec" and rest[0].endswith("a") else rest[1:]
    return rest


def _takes_script(word: str) -> bool:
    return word.startswith("-") and not word.startswith("--") and word.endswith("c")


def _could_start(word: str) -> bool:
    program = os.path.basename(word)
    return program == _NAME or program in _SHELLS or program in _WRAPPERS


def _script_runs_claude(script: str) -> bool:
    """Whether a shell script starts ``claude``, judging by its words."""
    lexer = shlex.shlex(script.replace("\n", ";"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    try:
        for word in [*lexer, ";"]:
            if word and set(word) <= set(";&|()"):
                if runs_claude(command):
                    return True
                command = []
            elif command or "=" not in word:  # `NAME=value` before a command does not belong to it
                command.append(word)
    except ValueError:  # an unclosed quote: the shell will refuse it, too
        return False
    return False
