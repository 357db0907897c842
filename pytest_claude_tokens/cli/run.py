"""``claude-tokens run -- CMD…``: any command's token traffic meets the fake service; then the verdict.

The verdict is the history's. What the command's exit status says is printed, and proves nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import IO, TYPE_CHECKING, cast

from fake_server.policy import PRESETS, Policy
from fake_server.secrecy import is_name, shown
from fake_server.serve.commandline import HistoryFile, Parser, Usage, path
from fake_server.server import GRACE_PERIOD_SECONDS
from pytest_claude_tokens import node
from pytest_claude_tokens.cli.serve import told
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.processes import groups, namespace
from pytest_claude_tokens.processes.reaper import Reaper
from pytest_claude_tokens.report.contention import trials
from pytest_claude_tokens.report.table import request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["main"]

_CALL = 0.5
"""Seconds that a call takes, where ``--serialize`` does not say."""
_TOKEN = 0.5
"""Seconds that a token request takes: processes that start together, and refresh, meet."""
_FAREWELL = 2.0
"""Seconds that a command which is to end gets after each signal, before it is killed."""
_TICK = 0.1
"""Seconds between two looks at whether a signal has come."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens run") -> int:
    """Run the command; returns 0 valid, 1 violated, 2 usage, 3 unknown or a command that failed by itself."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser(prog).parse_args(arguments)
        command = [word for number, word in enumerate(options.command) if number or word != "--"]
        if not command:
            raise Usage("name a command after `--`, such as: -- bash script.sh")
        if options.real_claude and not namespace.isolated():
            return namespace.enter(["run", *arguments])
        return _run(command, options)
    except (Usage, namespace.Forbidden) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] -- COMMAND ...",
        description="Run any command in an environment in which its token traffic meets the fake service, with a fake "
        "`claude` first on PATH and an account logged in; then print the verdict.",
        epilog="Exit status: 0 valid, 1 violated, 2 usage, 3 unknown, or valid but the command failed by itself. "
        "SIGINT, SIGTERM and SIGHUP end the command; what was seen until then is judged, and is unknown at best.",
    )
    parser.add_argument("--policy", default="anthropic", metavar="NAME", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="INVARIANT",
        help="note it, and don't fail by it; may be repeated",
    )
    parser.add_argument("--history", type=path, metavar="FILE", help="write the history to FILE, each line at once")
    parser.add_argument("--timeout", type=_some_seconds, metavar="SECONDS", help="end the command after so long")
    parser.add_argument(
        "--serialize", type=_seconds, metavar="SECONDS", help="seconds between the starts of two calls on one bearer"
    )
    parser.add_argument(
        "--tokens",
        type=_number,
        default=0,
        metavar="N",
        help="N more accounts, their setup-tokens exported as CLAUDE_TOKEN_1, CLAUDE_TOKEN_2 …",
    )
    parser.add_argument(
        "--token",
        action="append",
        default=[],
        metavar="NAME",
        help="one more account, its setup-token exported as NAME",
    )
    parser.add_argument(
        "--node", action="store_true", help="lead Node programs to the fake service, too; their fetch heeds no proxy"
    )
    parser.add_argument(
        "--real-claude",
        action="store_true",
        help="leave PATH alone; runs in a network namespace without a route out, or not at all",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _seconds(text: str) -> float:
    with suppress(ValueError):
        seconds = float(text)
        if 0 <= seconds < float("inf"):
            return seconds
    raise argparse.ArgumentTypeError(f"{shown(text)} is no number of seconds, 0 or more")


def _some_seconds(text: str) -> float:
    seconds = _seconds(text)
    if not seconds:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} ends the command before it begins; leave --timeout out for no limit"
        )
    return seconds


def _number(text: str) -> int:
    with suppress(ValueError):
        number = int(text)
        if number >= 0:
            return number
    raise argparse.ArgumentTypeError(f"{shown(text)} is no number, 0 or more")


def _policy(options: argparse.Namespace) -> Policy:
    """Calls take a while, as real ones do: those that are made together are open together.

    A serialized call takes as long as the next one on its bearer has to wait for its start, so that the next one is
    slower by just that, and the one after both is not.
    """
    try:
        policy = Policy.preset(options.policy)
    except ValueError as error:
        raise Usage(str(error)) from None
    seconds = options.serialize
    if seconds is None:
        return policy.but(latency={"call": _CALL, "token": _TOKEN})
    return policy.but(
        serialize=seconds, latency={"call": seconds, "token": _TOKEN}, queue_limit=max(policy.queue_limit, 3 * seconds)
    )


# One run.


def _run(command: Sequence[str], options: argparse.Namespace) -> int:
    policy = _policy(options)
    program = command[0]
    if "/" not in program and program != "claude" and shutil.which(program) is None:  # before a history is overwritten
        raise Usage(f"{program} can't be started: No such file or directory")
    with ExitStack() as stack:
        sink = None if options.history is None else HistoryFile()
        if sink is not None:
            stack.callback(sink.close)
            try:
                sink.open(options.history)
            except OSError as error:
                raise Usage(f"{options.history} can't be written: {error.strerror}") from None
        try:
            tokens = ClaudeTokens(policy, allow=options.allow, sink=cast("IO[str] | None", sink)).open()
            stack.callback(tokens.close)
            environment = _environment(tokens, options)
        except ValueError as error:  # --allow
            raise Usage(f"--{error}") from None
        except OSError as error:
            raise Usage(f"a temporary folder can't be made: {error.strerror or error}") from None
        if sink is not None and sink.error:
            raise Usage(f"{options.history} can't be written: {sink.error}")
        status = _attend(tokens, command, environment, options.timeout)
        verdict = tokens.finish()
        history = tokens.history.taken()
        print(told(history, verdict), *trials(history), sep="\n", file=sys.stderr)
        if not history.operations:
            print("claude-tokens: no request reached the service, so nothing was proved", file=sys.stderr)
        if tokens.proxy_url is None:
            print(
                'claude-tokens: without the extra "proxy" only http reached the service: '
                'pip install "pytest-claude-tokens[proxy]"',
                file=sys.stderr,
            )
        if sink is not None and sink.error:
            print(f"claude-tokens: {options.history} is not whole: {sink.error}", file=sys.stderr)
        if status and not verdict.exit_status:
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            print(f"claude-tokens: the command failed by itself, with {how}", file=sys.stderr)
            return 3
        return verdict.exit_status


def _environment(tokens: ClaudeTokens, options: argparse.Namespace) -> Mapping[str, str]:
    if not options.real_claude:
        tokens.install_claude()
    account = tokens.account()
    environment = tokens.env(account, config_dir=tokens.config_dir(account))
    if options.node:
        environment |= node.added(environment)
    ours = {name for name, value in environment.items() if os.environ.get(name) != value}
    for name in (*options.token, *(f"CLAUDE_TOKEN_{number}" for number in range(1, options.tokens + 1))):
        if not (_NAME.fullmatch(name) and is_name(name)):
            raise Usage(f"--token {shown(name)}: the name of a variable, 1 to 32 letters, digits and _")
        if name in ours or tokens.server.authority.grants_of(name):
            raise Usage(f"--token {name}: that variable is set by us already")
        environment[name] = tokens.account(name, setup_token=True).access_token
    return environment


# The command.


def _attend(tokens: ClaudeTokens, command: Sequence[str], environment: Mapping[str, str], timeout: float | None) -> int:
    """Run the command to its end, or end it. Returns its exit status; leaves nothing running in its group."""
    with _signals() as caught, closing(Reaper()) as reaper:
        reaper.start()
        try:
            process = subprocess.Popen(command, env=dict(environment), start_new_session=True)
        except OSError as error:
            raise Usage(f"{command[0]} can't be started: {error.strerror}") from None
        group = process.pid
        reaper.begun(group)
        try:
            why = _watch(process, timeout, caught)
            if why:
                _note_end(tokens, os.path.basename(command[0]), why)
                impatient = 2 if caught else 1
                numbers = dict.fromkeys((*caught[:1], signal.SIGTERM))
                groups.end(group, numbers, _FAREWELL, lambda: len(caught) >= impatient or _gone(process))
            else:
                groups.wait(lambda: bool(caught) or not groups.runs(group), GRACE_PERIOD_SECONDS)
                if groups.runs(group):
                    print("claude-tokens: what the command left running was ended", file=sys.stderr)
                    _note_kills(tokens)
        finally:
            groups.kill(group)
            groups.wait(lambda: _gone(process), _FAREWELL)
            reaper.ended(group)
        return process.wait()


def _gone(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None and not groups.runs(process.pid)


def _watch(process: subprocess.Popen[bytes], timeout: float | None, caught: Sequence[int]) -> str:
    """Wait for the command's end; says why not, where it has to be ended."""
    began = time.monotonic()
    while True:
        if caught:
            return f"no end when {signal.Signals(caught[0]).name} came, after {time.monotonic() - began:.1f} s"
        left = _TICK if timeout is None else min(_TICK, began + timeout - time.monotonic())
        if left <= 0:
            return f"no end after {timeout:g} s"
        with suppress(subprocess.TimeoutExpired):
            process.wait(left)
            return ""


def _note_end(tokens: ClaudeTokens, program: str, why: str) -> None:
    """Note that the command is about to be ended, and what it holds."""
    held = _held(tokens)
    with tokens.server.lock:
        tokens.server.journal.note("stuck", actor=program, why=f"{why}; it held {', '.join(held)}" if held else why)
    _note_kills(tokens)


def _held(tokens: ClaudeTokens) -> list[str]:
    """The open requests, and the locks of the login's folder."""
    history = tokens.history.taken()
    held = [f"{request(history, op.invoke)} of {op}" for op in history.operations if op.end is None]
    folder = tokens.config_dir("a1")
    locks = (folder.with_name(f"{folder.name}.lock"), folder / ".oauth_refresh.lock")
    return [*held, *(f"the lock {lock.name}" for lock in locks if lock.exists())]


def _note_kills(tokens: ClaudeTokens) -> None:
    """Say which workers are about to be killed, so that what they lose is laid at our door.

    These are those with an open request, and those that may not have stored the last reply yet.
    """
    history = tokens.history.taken()
    with tokens.server.lock:
        journal = tokens.server.journal
        now = journal.time(tokens.clock.now())
        ends = [op for op in history.operations if op.end is None or op.end.t > now - _FAREWELL]
        for actor in dict.fromkeys(op.actor for op in ends):
            journal.note("kill", actor=actor)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to end that have come in the block; those that are ignored, or that others handle, stay so."""
    caught: list[int] = []
    before = {}
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == usual:
            with suppress(ValueError):  # not in the main thread, where no handler can be set
                before[number] = signal.signal(number, lambda got, _: caught.append(got))
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
