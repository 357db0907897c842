"""``claude-tokens run -- CMD…``: any command's token traffic meets the fake service; then the verdict.

The verdict is the history's. What the command's exit status says is printed, and proves nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fake_server.policy import PRESETS, Policy
from pytest_claude_tokens import isolation
from pytest_claude_tokens.handle import ClaudeTokens
from pytest_claude_tokens.report.trials import trials
from pytest_claude_tokens.serving import told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["main"]

_REAL = "--real-claude"
_CALL = 0.5
"""Seconds that a call takes, where ``--serialize`` does not say."""
_FAREWELL = 2.0
"""Seconds that a command which ran out of time gets to end in, before it is killed."""


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens run") -> int:
    """Run the command; returns 0 valid, 1 violated, 2 usage, 3 unknown or a command that failed by itself."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser(prog).parse_args(arguments)
    command = [word for number, word in enumerate(options.command) if number or word != "--"]
    if not command:
        return _refuse(prog, "name a command after `--`, such as: -- bash script.sh")
    if options.real_claude and not isolation.isolated():
        return isolation.enter(["run", *arguments], lambda why: _refuse(prog, why))
    try:
        policy = _policy(options)
    except ValueError as error:
        return _refuse(prog, str(error))
    with ExitStack() as stack:
        sink: IO[str] | None = None
        if options.history is not None:
            try:
                sink = stack.enter_context(Path(options.history).open("w", encoding="utf-8"))
            except OSError as error:
                return _refuse(prog, f"{options.history} can't be written: {error.strerror}")
        tokens = ClaudeTokens(policy, sink=sink).open()
        stack.callback(tokens.close)
        environment = _environment(tokens, options)
        status = _run(tokens, command, environment, options.timeout)
        if isinstance(status, str):
            return _refuse(prog, status)
        verdict = tokens.finish()
        history = tokens.history.taken()
        table = trials(history)
        print(told(history, verdict), *([table] if table else []), sep="\n", file=sys.stderr)
        if status and not verdict.exit_status:
            print(f"claude-tokens: the command failed by itself, with status {status}", file=sys.stderr)
            return 3
        return verdict.exit_status


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [options] -- COMMAND ...",
        description="Run any command in an environment in which its token traffic meets the fake service, with a fake "
        "`claude` first on PATH and an account logged in; then print the verdict.",
        epilog="Exit status: 0 valid, 1 violated, 2 usage, 3 unknown, or valid but the command failed by itself.",
    )
    parser.add_argument("--policy", default="anthropic", metavar="NAME", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--history", metavar="FILE", help="write the history to FILE")
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end the command after so long")
    parser.add_argument(
        "--serialize", type=_seconds, metavar="SECONDS", help="seconds between the starts of two calls on one bearer"
    )
    parser.add_argument(
        "--tokens",
        type=int,
        default=0,
        metavar="N",
        help="N more accounts, exported as CLAUDE_TOKEN_1, CLAUDE_TOKEN_2 …",
    )
    parser.add_argument(
        "--token",
        action="append",
        default=[],
        metavar="NAME",
        help="one more account, its setup-token exported as NAME",
    )
    parser.add_argument(
        _REAL, action="store_true", help="leave PATH alone; runs in a network namespace without a route out"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _policy(options: argparse.Namespace) -> Policy:
    """Calls take a while, as real ones do: those that are made together are open together.

    A serialized call takes as long as the next one on its bearer has to wait for its start, so that the next one is
    slower by just that, and the one after both is not.
    """
    policy = Policy.preset(options.policy)
    seconds = options.serialize
    if seconds is None:
        return policy.but(latency={"call": _CALL})
    return policy.but(serialize=seconds, latency={"call": seconds}, queue_limit=max(policy.queue_limit, 3 * seconds))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: seconds, 0 or more")
    return seconds


def _refuse(prog: str, why: str) -> int:
    print(f"{prog}: {why}", file=sys.stderr)
    return 2


def _environment(tokens: ClaudeTokens, options: argparse.Namespace) -> Mapping[str, str]:
    if not options.real_claude:
        tokens.install_claude()
    account = tokens.account()
    environment = tokens.env(account, config_dir=tokens.config_dir(account))
    names = [*options.token, *(f"CLAUDE_TOKEN_{number}" for number in range(1, options.tokens + 1))]
    for name in names:
        environment[name] = tokens.account(name, setup_token=True).access_token
    return environment


def _run(
    tokens: ClaudeTokens, command: Sequence[str], environment: Mapping[str, str], timeout: float | None
) -> int | str:
    """The command's exit status, or one sentence on why it can't be started."""
    try:
        process = subprocess.Popen(command, env=dict(environment), start_new_session=True)
    except OSError as error:
        return f"{command[0]} can't be started: {error.strerror}"
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        with tokens.server.lock:
            held = sorted(f"{exchange.actor}'s {exchange.kind} request" for exchange in tokens.server.open.values())
            holding = f"; open: {', '.join(held)}" if held else ""
            why = f"no end after {timeout:g} s{holding}"
            tokens.server.journal.note("stuck", actor=os.path.basename(command[0]), why=why)
        return _end(process)
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> int:
    """End the command and all that it has started: with a word first, then for good."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_FAREWELL)
    return process.wait()
