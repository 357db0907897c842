"""``claude``: from the command line to an exit status."""

from __future__ import annotations

import os
import sys

from pytest_claude_tokens.claude import options as command_line
from pytest_claude_tokens.claude.dialects import DEFAULT, DIALECTS
from pytest_claude_tokens.claude.process import Machine, Terminated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_claude_tokens.claude.client import Client
    from pytest_claude_tokens.claude.http import Http
    from pytest_claude_tokens.claude.options import Options

__all__ = ["entry", "main"]

_SIGINT, _SIGTERM = 130, 143


def main(arguments: list[str], machine: Machine, http: Http | None = None) -> int:
    """Run the command and return its exit status: 2 where the stand-in itself refuses, else as the CLI's."""
    try:
        options = command_line.parse(arguments)
    except command_line.UsageError as error:
        print(error, file=machine.stderr)
        return 1
    name = machine.environ.get("CLAUDE_TOKENS_DIALECT") or DEFAULT
    if name not in DIALECTS:
        return _refuse(machine, f"CLAUDE_TOKENS_DIALECT names no dialect: choose one of {', '.join(DIALECTS)}")
    if "--version" in options:
        print(f"{DIALECTS[name].version} (Claude Code)", file=machine.stdout)
        return 0
    if "--help" in options:
        print(command_line.HELP, end="", file=machine.stdout)
        return 0
    if options.missing is not None:
        return _refuse(machine, f"it has no `claude {options.missing}`, only what concerns tokens")
    try:
        return _run(machine, options, name, http)
    except Terminated as end:
        return end.code


def entry() -> None:
    """Run the program, and end the process with its exit status."""
    import signal

    if sys.stdout is None:  # standard output was closed before the start
        os._exit(1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr] # a real file
    machine = Machine(os.environ, sys.stdin, sys.stdout, sys.stderr)
    for number, code in ((signal.SIGINT, _SIGINT), (signal.SIGTERM, _SIGTERM)):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_, code=code: machine.terminate(code))
    try:
        code = main(sys.argv[1:], machine)
        sys.stdout.flush()
    except Terminated as end:
        code = end.code
    except BrokenPipeError:
        code = 1
    os._exit(code)  # without the interpreter's shutdown, which takes time and has nothing to do


def _run(machine: Machine, options: Options, name: str, http: Http | None) -> int:
    from pytest_claude_tokens.claude.client import Client
    from pytest_claude_tokens.claude.http import refusal
    from pytest_claude_tokens.claude.store import is_real, real_variable

    reason = refusal(machine.environ)
    if reason is not None:
        return _refuse(machine, f"{reason}; this program never contacts the real service")
    variable = real_variable(machine.environ)
    if variable is not None:
        return _refuse(machine, f"{variable} may hold a real token, which is never sent; unset it")
    client = Client(machine, DIALECTS[name], session=options.get("--session-id"), http=http)
    login = client.store.read()
    if login is not None and is_real(login):
        return _refuse(
            machine, f"{client.store.path} may hold a real login, which would be lost; set CLAUDE_CONFIG_DIR"
        )
    command = tuple(options.words[:2])
    if "--print" not in options and command[:1] in (("setup-token",), ("auth",)):
        from pytest_claude_tokens.claude import login as logins

        commands: dict[tuple[str, ...], Callable[[Client], int]] = {
            ("setup-token",): logins.setup_token,
            ("auth", "login"): logins.log_in,
            ("auth", "logout"): logins.log_out,
            ("auth", "status"): lambda client: logins.status(client, text="--text" in options),
        }
        run = commands.get(command)
        if run is None:
            print(f"error: unknown command '{' '.join(command)}'", file=machine.stderr)
            return 1
        return run(client)
    if "--print" not in options and machine.stdout.isatty():
        return _refuse(machine, "only --print (-p) and the commands of --help are imitated, and no screen")
    from pytest_claude_tokens.claude.prompt import run as run_prompt

    return run_prompt(client, options)


def _refuse(machine: Machine, reason: str) -> int:
    print(f"claude (the stand-in of pytest-claude-tokens) refuses to run: {reason}", file=machine.stderr)
    return 2
