"""``claude-tokens check``: the verdict on a history file, the same that its run gave."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from fake_server.secrecy import told
from fake_server.serve.commandline import PlainParser
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import State, judge
from pytest_claude_tokens.report.story import plain_story, story

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_claude_tokens.judge.judging import Note, Verdict
    from pytest_claude_tokens.judge.violations import Violation

__all__ = ["main", "verdict_data"]


def main(argv: Sequence[str] | None = None, *, prog: str = "claude-tokens check") -> int:
    """Judge the file that ``argv`` names; returns the exit status."""
    parser = PlainParser(
        prog=prog,
        description="Judge a history file, and tell the story of what was broken.",
        epilog="Exit status: 0 valid, 1 violated, 2 usage, 3 unknown.",
    )
    parser.add_argument("file", metavar="HISTORY.jsonl", help="a history, as a failure, `serve` or `demo` leaves it")
    parser.add_argument("--json", action="store_true", help="print one JSON object for programs")
    options = parser.parse_args(argv)
    try:
        history = History.load(options.file)
    except OSError as error:
        return _refuse(prog, f"{options.file} can't be read: {error.strerror}")
    except ValueError as error:
        return _refuse(prog, str(error))
    verdict = judge(history)
    if options.json:
        print(json.dumps(verdict_data(history, verdict), separators=(",", ":")))
    else:
        _tell(history, verdict)
    return verdict.exit_status


def _refuse(prog: str, why: str) -> int:
    print(_ascii(told(f"{prog}: {why}")), file=sys.stderr)
    return 2


# For people.


def _tell(history: History, verdict: Verdict) -> None:
    if verdict.violations:
        first = verdict.violations[0]
        _print(f"{_name(first)}: {first}", "", _told(lambda: story(history, first)), "")
    elif verdict.state is State.UNKNOWN:
        reasons = "; ".join(str(note) for note in verdict.notes if note.why in _REASONS)
        _print(_told(lambda: plain_story(history, reasons)), "")
    _print(*(f"note: {note}" for note in verdict.notes))
    broken = f", {_count(len(verdict.violations), 'violation')}" if verdict.violations else ""
    torn = ", torn" if history.torn else ""
    _print(f"{verdict.state}: {_count(len(history.operations), 'request')}{broken}{torn}")


def _told(tell: Callable[[], str]) -> str:
    try:
        return tell()
    except Exception as error:  # noqa: BLE001 - a file by another hand may hold anything; its verdict stands
        return f"The story can't be told: {type(error).__name__}: {error}"


_REASONS = ("torn", "stuck", "crashed")


def _name(violation: Violation) -> str:
    kind = type(violation)
    return f"{kind.__module__}.{kind.__qualname__}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _print(*lines: str) -> None:
    for line in lines:
        print(_ascii(line))


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


# For programs.


def verdict_data(history: History, verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON. The violations come in the order in which they would be raised."""
    return {
        "verdict": str(verdict.state),
        "torn": history.torn,
        "events": len(history),
        "requests": len(history.operations),
        "violations": [_violation_data(violation) for violation in verdict.violations],
        "notes": [_note_data(note) for note in verdict.notes],
    }


def _violation_data(violation: Violation) -> dict[str, Any]:
    return {
        "invariant": violation.invariant,
        "exception": _name(violation),
        "headline": violation.headline,
        "seq": violation.seq,
        "at_end": violation.at_end,
        "grant": violation.grant,
        "tokens": list(violation.labels),
        "workers": list(violation.actors),
        "requests": [operation.opened for operation in violation.operations],
        "cause": violation.cause,
    }


def _note_data(note: Note) -> dict[str, Any]:
    return {
        "why": note.why,
        "invariant": None if note.violation is None else note.violation.invariant,
        "text": note.text,
    }
