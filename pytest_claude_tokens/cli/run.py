"""``claude-tokens run -- CMD…``: runs a command whose token traffic goes to the fake service, and judges the history.

The command's own exit status is printed, but does not affect the verdict.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from fake_server.policy import PRESETS, Policy
from fake_server.secrecy import is_name, safe_text, shown
from fake_server.serve.commandline import (
    SERVICE_HELP,
    Parser,
    Usage,
    add_waits,
    path,
    seconds,
    service,
    whole_number,
    with_waits,
)
from fake_server.serve.history_file import HistoryFile
from fake_server.serve.page_file import check_page, page_path, write_page
from fake_server.server import GRACE_PERIOD_SECONDS
from fake_server.service import SERVICES
from pytest_claude_tokens import node
from pytest_claude_tokens.cli import isolate
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.handle.runtime import Runtime
from pytest_claude_tokens.judge.earning import earned
from pytest_claude_tokens.processes import namespace, supervise
from pytest_claude_tokens.processes.groups import ProcessGroup, wait_until
from pytest_claude_tokens.processes.peers import ProcessNames
from pytest_claude_tokens.processes.reaper import Reaper
from pytest_claude_tokens.report.contention import contention
from pytest_claude_tokens.report.table import request
from pytest_claude_tokens.report.timeline import timeline
from pytest_claude_tokens.report.verdict import verdict_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_claude_tokens.judge import Verdict

__all__ = ["main"]

_CALL_SECONDS = 0.5
"""Seconds that a call takes without ``--serialize``."""
_TOKEN_SECONDS = 0.5
"""Seconds that a token request takes: long enough that processes which start together have overlapping refreshes."""
_SIGNAL_GRACE_PERIOD_SECONDS = 2.0
"""Seconds between the signals that end a command, and before it is killed."""
_MOST_TOKENS = 1000
"""Accounts of ``--tokens``: a system refuses an environment that is much larger."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens run") -> int:
    """Run the command; returns 0 valid, 1 violated, 2 usage, 3 unknown or a command that failed by itself."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser(prog).parse_args(arguments)
        command = [word for number, word in enumerate(options.command) if number or word != "--"]
        if not command:
            raise Usage("name a command after `--`, such as: -- bash script.sh")
        if options.real_claude and not namespace.isolated():
            return isolate.enter(["run", *arguments])
        return _run(command, options)
    except (Usage, isolate.Forbidden) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] -- COMMAND ...",
        description="Run any command in an environment that leads its token traffic to the fake service, with a fake "
        "`claude` first on PATH and an account logged in; then print the verdict.",
        epilog="Exit status: 0 valid, 1 violated, 2 usage, 3 unknown (also where no request came), or valid but the "
        "command failed by itself. "
        "SIGINT, SIGTERM and SIGHUP end the command; what happened until then is judged, and is unknown at best.",
    )
    parser.add_argument("--policy", metavar="NAME", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--service", type=service, default=SERVICES["claude"], metavar="S", help=SERVICE_HELP)
    parser.add_argument(
        "--host", action="append", default=[], metavar="NAME", help="one more host name to answer for; may be repeated"
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="INVARIANT",
        help="note violations of INVARIANT without failing; may be repeated",
    )
    parser.add_argument(
        "--history", type=path, metavar="FILE", help="write the history to FILE, line by line as it happens"
    )
    parser.add_argument("--html", type=page_path, metavar="FILE", help="draw the history as a page, when it has ended")
    parser.add_argument("--timeout", type=_positive_seconds, metavar="SECONDS", help="end the command after that time")
    parser.add_argument("--expired", action="store_true", help="the account's access token has expired already")
    add_waits(parser)
    parser.add_argument(
        "--tokens",
        type=whole_number(_MOST_TOKENS),
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
    parser.add_argument("--node", action="store_true", help="changes nothing: Node programs are always led here")
    parser.add_argument(
        "--real-claude",
        action="store_true",
        help="leave PATH alone; run in a network namespace without a route out, or not at all",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _positive_seconds(text: str) -> float:
    value = seconds(text)
    if not value:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} would end the command before it begins; leave --timeout out for no limit"
        )
    return value


def _policy(options: argparse.Namespace) -> Policy:
    """The policy of the run. Calls take a while, as real ones do, so that calls made together are open together.

    Without ``--latency``, a call takes as long as ``--serialize`` delays the next one on its bearer: then two calls
    made together overlap, and the second is slower by exactly that time, but a call after both is not.
    """
    try:
        policy = Policy.preset(options.policy or options.service.policy)
    except ValueError as error:
        raise Usage(str(error)) from None
    calls = _CALL_SECONDS if options.serialize is None else options.serialize
    return with_waits(policy.but(latency={"call": calls, "token": _TOKEN_SECONDS}), options)


# One run.


def _run(command: Sequence[str], options: argparse.Namespace) -> int:
    policy = _policy(options)
    program = command[0]
    if "/" not in program and program != "claude" and shutil.which(program) is None:  # before a history is overwritten
        raise Usage(f"{program} can't be started: No such file or directory")
    if options.html is not None:
        _check_page(options.html)
    with ExitStack() as stack:
        file = _open_history(options.history, stack)
        names = ProcessNames()
        tokens, environment = _open_handle(policy, options, Runtime(sink=file, namer=names), stack)
        if file is not None and file.error:  # pragma: no cover - the disk has filled up since the file was opened
            raise Usage(f"{options.history} can't be written: {file.error}")
        status = _attend(tokens, names, command, environment, options.timeout)
        judged = tokens.finish()
        verdict = earned(tokens.history.taken(), judged)
        _print_verdict(tokens, verdict)
        if file is not None and file.error:
            _print(f"{options.history} is not whole: {file.error}")
        if options.html is not None:
            _draw(options.html, tokens, verdict)
        if status and not judged.exit_status:
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            _print(f"the command failed by itself, with {how}")
            return 3
        return verdict.exit_status


def _check_page(path: str) -> None:
    try:
        check_page(path)
    except OSError as error:
        raise Usage(f"{path} can't be written: {error.strerror}") from None


def _draw(path: str, tokens: ClaudeTokens, verdict: Verdict) -> None:
    """Write the page. The verdict stands, whatever becomes of its picture."""
    try:
        write_page(path, timeline(tokens.history.taken(), verdict=verdict))
    except OSError as error:
        _print(f"{path} can't be written: {error.strerror}")


def _open_history(path: str | None, stack: ExitStack) -> HistoryFile | None:
    if path is None:
        return None
    try:
        return stack.enter_context(HistoryFile(path))
    except OSError as error:
        raise Usage(f"{path} can't be written: {error.strerror}") from None


def _open_handle(
    policy: Policy, options: argparse.Namespace, runtime: Runtime, stack: ExitStack
) -> tuple[ClaudeTokens, Mapping[str, str]]:
    """The service, and the environment that leads to it."""
    try:
        tokens = ClaudeTokens(
            policy, service=options.service, allow=options.allow, hosts=options.host, runtime=runtime
        ).open()
        stack.callback(tokens.close)
        return tokens, _environment(tokens, options)
    except ValueError as error:  # --allow, --host
        raise Usage(f"--{error}") from None
    except OSError as error:
        raise Usage(f"a temporary folder can't be made: {error.strerror or error}") from None


def _print_verdict(tokens: ClaudeTokens, verdict: Verdict) -> None:
    history = tokens.history.taken()
    print(
        verdict_text(history, verdict, kept=tokens.server.journal.kept), *contention(history), sep="\n", file=sys.stderr
    )
    if tokens.proxy_url is None:
        _print(
            'without the extra "proxy" only http reached the service, at the base URL: '
            'pip install "pytest-claude-tokens[proxy]"',
        )


def _print(text: str) -> None:
    print(safe_text(f"claude-tokens: {text}"), file=sys.stderr)


def _environment(tokens: ClaudeTokens, options: argparse.Namespace) -> Mapping[str, str]:
    if not options.real_claude:
        tokens.install_claude()
    account = tokens.account(expired=options.expired)
    # A client of another service keeps its login where we can't see it: Claude's folder would never change.
    folder = None if options.service.standard else tokens.config_dir(account)
    environment = tokens.env(account, config_dir=folder)
    environment |= node.added(environment)
    ours = {name for name, value in environment.items() if os.environ.get(name) != value}
    for name in (*options.token, *(f"CLAUDE_TOKEN_{number}" for number in range(1, options.tokens + 1))):
        if not (_VARIABLE.fullmatch(name) and is_name(name)):
            raise Usage(f"--token {shown(name)}: must be the name of a variable: 1 to 32 letters, digits and _")
        if name in ours or tokens.server.authority.grants_of(name):
            raise Usage(f"--token {name}: that variable is set already, by this command")
        environment[name] = tokens.account(name, setup_token=True).access_token
    return environment


# The command.


def _attend(
    tokens: ClaudeTokens,
    names: ProcessNames,
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout: float | None,
) -> int:
    """Run the command to its end, or end it. Returns its exit status; its process group is gone afterwards."""
    with supervise.caught_signals() as caught, closing(Reaper()) as reaper:
        try:
            program = ProcessGroup(command, reaper, env=dict(environment))
        except OSError as error:
            raise Usage(f"{command[0]} can't be started: {error.strerror}") from None
        try:
            why = supervise.wait(program, timeout, caught)
            if why:
                _note_end(tokens, names.of(program.id) or os.path.basename(command[0]), why)
                supervise.end(program, _SIGNAL_GRACE_PERIOD_SECONDS, caught)
            else:
                wait_until(lambda: bool(caught) or not program.is_alive(), GRACE_PERIOD_SECONDS)
                if program.is_alive():
                    _print("what the command left running was ended")
                    _note_kills(tokens)
        finally:
            program.kill()
            wait_until(program.has_ended, _SIGNAL_GRACE_PERIOD_SECONDS)
            program.release()
        return program.process.wait()


def _note_end(tokens: ClaudeTokens, program: str, why: str) -> None:
    """Note, before the command is ended, the reason, its open requests and its locks."""
    held = _held(tokens)
    with tokens.server.lock:
        tokens.server.journal.note("stuck", actor=program, why=f"{why}; it held {', '.join(held)}" if held else why)
    _note_kills(tokens)


def _held(tokens: ClaudeTokens) -> list[str]:
    """The open requests, and the locks in the login's folder."""
    history = tokens.history.taken()
    held = [f"{request(history, op.invoke)} of {op}" for op in history.operations if op.end is None]
    if tokens.server.service.standard:
        return held
    folder = tokens.config_dir("a1")
    locks = (folder.with_name(f"{folder.name}.lock"), folder / ".oauth_refresh.lock")
    return [*held, *(f"the lock {lock.name}" for lock in locks if lock.exists())]


def _note_kills(tokens: ClaudeTokens) -> None:
    """Note which workers are about to be killed, so that the judge excuses the tokens that they lose.

    These are the workers with an open request, and those that may not have stored their last reply yet.
    """
    history = tokens.history.taken()
    with tokens.server.lock:
        journal = tokens.server.journal
        now = journal.time(tokens.clock.now())
        ends = [op for op in history.operations if op.end is None or op.end.t > now - _SIGNAL_GRACE_PERIOD_SECONDS]
        for actor in dict.fromkeys(op.actor for op in ends):
            journal.note("kill", actor=actor)
