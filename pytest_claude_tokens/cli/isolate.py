"""Restarts ``claude-tokens`` inside a network namespace without a route out.

``python -m pytest_claude_tokens.cli.isolate ARGUMENTS``, run in a new namespace, acts as ``claude-tokens ARGUMENTS``.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, NoReturn

from pytest_claude_tokens.processes import namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Forbidden", "enter", "main"]

_NEEDS = "a real claude runs only in a network namespace without a route out"


class Forbidden(Exception):
    """This machine does not allow such a namespace; the message says why, in one sentence."""


def enter(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by ``claude-tokens ARGUMENTS`` in a new namespace. Raises :class:`Forbidden`.

    ``exec`` and not a child process, so that signals, terminal and exit status are those of the inner command.
    """
    if os.environ.get(namespace.ISOLATED):
        raise Forbidden(f"{_NEEDS}, and the one that was made for it has a route")
    obstacle = namespace.obstacle("--net")
    if obstacle is not None:
        raise Forbidden(f"{_NEEDS}, and {obstacle}")
    sys.stdout.flush()
    program, *flags = namespace.unshare("--net")
    again = [program, *flags, sys.executable, "-m", "pytest_claude_tokens.cli.isolate", *arguments]
    environment = {**os.environ, namespace.ISOLATED: "1"}
    os.execve(shutil.which(program) or program, again, environment)  # noqa: S606 - a program, not a shell line


def main(argv: Sequence[str] | None = None) -> int:
    """The process that :func:`enter` starts in the namespace; returns the exit status."""
    from pytest_claude_tokens.cli.main import main as command

    try:
        namespace.loopback_up()
    except OSError as error:
        sys.stderr.write(f"claude-tokens run: {_NEEDS}, and its loopback can't be used: {error.strerror}\n")
        return 2
    return command(argv)


if __name__ == "__main__":
    sys.exit(main())
