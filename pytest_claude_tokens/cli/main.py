"""``claude-tokens``: a table of commands, each a module with ``main(argv, *, prog)`` that is loaded when called."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fake_server.secrecy import shown
from fake_server.serve.commandline import PlainParser

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "Command", "main"]

PROG = "claude-tokens"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, its module, and its description.

    ``prints``: it is useless, and so refused, if standard output is closed.
    """

    name: str
    module: str
    summary: str
    prints: bool = True


COMMANDS: tuple[Command, ...] = (
    Command("demo", "pytest_claude_tokens.cli.demo", "find a double-spend in a small dispatcher, and spare its twin"),
    Command("serve", "pytest_claude_tokens.cli.serve", "the fake service as a process, for programs in any language"),
    Command("run", "pytest_claude_tokens.cli.run", "run a command against the fake service, then judge it", False),
    Command("check", "pytest_claude_tokens.cli.check", "judge a history file"),
    Command("timeline", "pytest_claude_tokens.cli.timeline", "draw a history file as one HTML page"),
    Command("workarounds", "pytest_claude_tokens.cli.workarounds", "which workaround holds, and at what price"),
    Command("scenario", "pytest_claude_tokens.cli.scenario", "a known failure by its name, and a twin that survives"),
    Command("doctor", "pytest_claude_tokens.cli.doctor", "what this machine can run, and what it would skip"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status: 0 valid, 1 violated, 2 usage, 3 unknown."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = _parser().parse_args(arguments[:1])  # the arguments after the command belong to it
    if first.version:
        print(f"{PROG} {importlib.metadata.version('pytest-claude-tokens')}")
        return 0
    if first.command is None:
        _parser().print_help(sys.stderr)
        return 2
    chosen = next((command for command in COMMANDS if command.name == first.command), None)
    if chosen is None:
        names = ", ".join(command.name for command in COMMANDS)
        print(f"{PROG}: there is no command {shown(first.command)}; the commands are {names}", file=sys.stderr)
        return 2
    return _run(chosen, arguments[1:])


def _run(command: Command, arguments: list[str]) -> int:
    prog = f"{PROG} {command.name}"
    if command.prints and sys.stdout is None:
        return _refuse_output(prog, "it is closed")
    try:
        try:
            run = importlib.import_module(command.module).main  # the import is slow, and may be interrupted
            status: int = run(arguments, prog=prog)
            return status
        finally:  # `--help` does not return
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _discard_output()
        return 141
    except OSError:
        why = _output_error()
        if not why:
            raise
        _discard_output()
        return _refuse_output(prog, why)


def _refuse_output(prog: str, why: str) -> int:
    print(f"{prog}: standard output can't be written: {why}", file=sys.stderr)
    return 2


def _output_error() -> str:
    """Why standard output can't be written to; empty if it can."""
    try:
        print(flush=True)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _discard_output() -> None:
    """Redirect standard output to the null device, so that flushing the rest at exit raises no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    width = max(len(command.name) for command in COMMANDS)
    listed = "\n".join(f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS)
    parser = PlainParser(
        prog=PROG,
        usage=f"{PROG} COMMAND ...",
        description="A fake Claude token service, and a judge of those who use it.",
        epilog=f"commands:\n{listed}\n\n`{PROG} COMMAND --help` tells more about each.\n"
        "Exit status: 0 valid, 1 violated, 2 usage, 3 unknown.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version, and exit")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    return parser
