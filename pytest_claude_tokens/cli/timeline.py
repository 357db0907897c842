"""``claude-tokens timeline``: draws a history file as one HTML page."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from fake_server.secrecy import safe_text
from fake_server.serve.commandline import PlainParser, whole_number
from fake_server.serve.page_file import page_path, write_page
from pytest_claude_tokens.judge import History, judge
from pytest_claude_tokens.judge.earning import earned
from pytest_claude_tokens.report.timeline import timeline
from pytest_claude_tokens.report.wording import ascii_only

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_LAST_SEQ = 10**15


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens timeline") -> int:
    """Draw the file that ``argv`` names; returns the exit status of its verdict, or 2."""
    parser = PlainParser(
        prog=prog,
        description="Draw a history file as one HTML page that needs no network.",
        epilog="Exit status: 0 valid, 1 violated, 2 usage, 3 unknown.",
    )
    parser.add_argument("file", metavar="HISTORY.jsonl", help="a history, as a failure, `serve` or `run` leaves it")
    parser.add_argument(
        "--output", type=page_path, metavar="FILE.html", help="where to (default: beside the history, ending in .html)"
    )
    parser.add_argument(
        "--around",
        type=whole_number(_LAST_SEQ),
        metavar="SEQ",
        help="of a very long history, draw the events near that one (default: the first violation)",
    )
    options = parser.parse_args(argv)
    try:
        history = History.load(options.file)
    except OSError as error:
        return _refuse(prog, f"{options.file} can't be read: {error.strerror}")
    except ValueError as error:
        return _refuse(prog, str(error))
    output = options.output or os.path.splitext(options.file)[0] + ".html"
    if os.path.exists(output) and os.path.samefile(output, options.file):
        return _refuse(prog, f"{output} is the history itself; name another file with --output")
    verdict = earned(history, judge(history))
    try:
        write_page(output, timeline(history, verdict=verdict, around=options.around))
    except OSError as error:
        return _refuse(prog, f"{output} can't be written: {error.strerror}")
    print(ascii_only(safe_text(f"{output}: {verdict.state}, {len(history):,} events")))
    return verdict.exit_status


def _refuse(prog: str, why: str) -> int:
    print(ascii_only(safe_text(f"{prog}: {why}")), file=sys.stderr)
    return 2
