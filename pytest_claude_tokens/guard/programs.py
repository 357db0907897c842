"""The part of the guard that refuses to start ``claude`` outside an environment that leads to the fake service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_server.genuine import os
from pytest_claude_tokens.guard import commands
from pytest_claude_tokens.guard.hosts import MARKER
from pytest_claude_tokens.guard.refusal import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_claude_tokens.guard.audit import Args, Check

__all__ = ["CHECKS", "POPEN", "words_of_popen"]

POPEN = "subprocess.Popen"
"""The audit event of ``subprocess`` starting a program."""


def words_of_popen(args: Args) -> list[str]:
    """The words of the command line, from the arguments of the event :data:`POPEN`."""
    executable, arguments, *_ = args
    return commands.words(arguments) or commands.words([executable])


def _check(arguments: list[str], environment: Mapping[Any, Any] | None) -> None:
    names = os.environ if environment is None else environment
    if commands.runs_claude(arguments) and not any(os.fsdecode(name) == MARKER for name in names):
        refuse(
            "to start claude outside the fake environment",
            "it would use the real login; start it with env=tokens.env(account), inside tokens.environ(), or under the "
            "fixture fake_claude",
        )


def _on_popen(event: str, args: Args) -> None:
    *_, environment = args
    _check(words_of_popen(args), environment)


def _on_spawn(event: str, args: Args) -> None:
    path, arguments, environment = args[-3:]
    _check([*commands.words([path])[:1], *commands.words(arguments)[1:]], environment)


def _on_system(event: str, args: Args) -> None:
    _check(["sh", "-c", *commands.words([args[0]])], None)


CHECKS: dict[str, Check] = {
    POPEN: _on_popen,
    "os.posix_spawn": _on_spawn,
    "os.exec": _on_spawn,
    "os.spawn": _on_spawn,
    "os.system": _on_system,
}
"""The check of each audit event."""
