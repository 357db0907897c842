"""A verdict in words, and as JSON: the same for ``check``, ``serve`` and ``run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.judge.earning import refusals, told
from pytest_claude_tokens.judge.verdict import State
from pytest_claude_tokens.judge.wording import count
from pytest_claude_tokens.report.story import plain_story, story
from pytest_claude_tokens.report.wording import ascii_only

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History
    from pytest_claude_tokens.judge.verdict import Note, Verdict
    from pytest_claude_tokens.judge.violations import Violation

__all__ = ["qualified_name", "verdict_data", "verdict_page", "verdict_text"]


def verdict_text(history: History, verdict: Verdict, *, kept: bool = True) -> str:
    """For the end of a process that served: the verdict first, then its story, then the notes that don't affect it.

    ``kept``: the history is in a file.
    """
    first = f"claude-tokens: {verdict.state}, {count(_requests(history), 'request')}"
    if verdict.violations:
        first = f"{first}: {_headline(verdict.violations[0])}"
    found = _story(history, verdict, kept=kept)
    notes = [f"note: {note}" for note in verdict.notes if not note.is_reason]
    notes += _refused(history, found)
    return ascii_only("\n".join([first, *(["", found] if found else []), *([""] if found and notes else []), *notes]))


def verdict_page(history: History, verdict: Verdict) -> str:
    """For a command that prints a verdict: the story of the findings, all notes, and the verdict as the last line."""
    blocks = [_headline(verdict.violations[0])] if verdict.violations else []
    found = _story(history, verdict)
    blocks += [found] if found else []
    broken = f", {count(len(verdict.violations), 'violation')}" if verdict.violations else ""
    torn = ", torn" if history.torn else ""
    last = f"{verdict.state}: {count(_requests(history), 'request')}{broken}{torn}"
    blocks.append("\n".join([*(f"note: {note}" for note in verdict.notes), *_refused(history, found), last]))
    return ascii_only("\n\n".join(blocks))


def qualified_name(error: BaseException) -> str:
    """The name of an exception's class as pytest prints it: ``claude_tokens.DoubleSpend``."""
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _requests(history: History) -> int:
    return len(history.operations) + history.quiet.requests


def _headline(violation: Violation) -> str:
    return f"{qualified_name(violation)}: {violation}"


def _story(history: History, verdict: Verdict, *, kept: bool = True) -> str:
    """The story of the first violation, or the reason why the verdict is UNKNOWN; empty for VALID."""
    try:
        if verdict.violations:
            return story(history, verdict.violations[0], kept=kept)
        if verdict.state is State.UNKNOWN:
            return plain_story(history, "; ".join(map(str, verdict.reasons)), kept=kept)
    except Exception as error:  # noqa: BLE001 - a file not written by us may hold anything; its verdict stands
        return f"The story can't be told: {type(error).__name__}: {error}"
    return ""


def _refused(history: History, story: str) -> list[str]:
    """What was refused, unless a story tells it."""
    return [] if story else [f"note: {text}" for text in told(refusals(history.noted("refused")))]


# For programs.


def verdict_data(history: History, verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON. The violations are in the order in which they would be raised."""
    return {
        "verdict": str(verdict.state),
        "torn": history.torn,
        "events": len(history) + 2 * history.quiet.requests,
        "requests": _requests(history),
        "violations": [_violation_data(violation) for violation in verdict.violations],
        "notes": [_note_data(note) for note in verdict.notes],
    }


def _violation_data(violation: Violation) -> dict[str, Any]:
    return {
        "invariant": violation.invariant,
        "exception": qualified_name(violation),
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
