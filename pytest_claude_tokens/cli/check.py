"""``claude-tokens check``: judges a history file; the verdict is the same as that of its run."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from fake_server.secrecy import safe_text
from fake_server.serve.commandline import PlainParser
from pytest_claude_tokens.handle.settings import checked_allow
from pytest_claude_tokens.judge import History, judge
from pytest_claude_tokens.judge.earning import earned
from pytest_claude_tokens.report.verdict import verdict_data, verdict_page
from pytest_claude_tokens.report.wording import ascii_only

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_LONG = 4 * 1024 * 1024
"""Bytes of a file from which on it is a long history."""


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens check") -> int:
    """Judge the file that ``argv`` names; returns the exit status."""
    parser = PlainParser(
        prog=prog,
        description="Judge a history file, and tell the story of what was broken.",
        epilog="Exit status: 0 valid, 1 violated, 2 usage, 3 unknown.",
    )
    parser.add_argument("file", metavar="HISTORY.jsonl", help="a history, as a failure, `serve` or `demo` leaves it")
    parser.add_argument("--json", action="store_true", help="print one JSON object for programs")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="INVARIANT",
        help="note violations of INVARIANT, besides those that the history's run allowed; may be repeated",
    )
    options = parser.parse_args(argv)
    try:
        allowed = checked_allow(options.allow)
        history = _load(options.file)
    except OSError as error:
        return _refuse(prog, f"{options.file} can't be read: {error.strerror}")
    except ValueError as error:
        return _refuse(prog, str(error))
    allow = {*allowed, *(history.header.get("allow") or ())} if allowed else None
    verdict = earned(history, judge(history, allow=allow))
    if options.json:
        print(json.dumps(verdict_data(history, verdict), separators=(",", ":")))
    else:
        print(verdict_page(history, verdict))
    return verdict.exit_status


def _load(path: str) -> History:
    """The history; of a long one only what matters, as nobody reads more of it than that."""
    return History.load_what_matters(path) if os.stat(path).st_size > _LONG else History.load(path)


def _refuse(prog: str, why: str) -> int:
    print(ascii_only(safe_text(f"{prog}: {why}")), file=sys.stderr)
    return 2
