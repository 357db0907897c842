"""The page: the history's value and a table of it, put into the files beside this module."""

from __future__ import annotations

import base64
import hashlib
import html
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fake_server.genuine import json
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.judge.wording import clip, count
from pytest_claude_tokens.report.story import plain_story, story
from pytest_claude_tokens.report.table import aside, summed_up
from pytest_claude_tokens.report.timeline.facts import facts
from pytest_claude_tokens.report.verdict import qualified_name
from pytest_claude_tokens.report.wording import ascii_only

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_claude_tokens.judge.verdict import Verdict

__all__ = ["MOST_EVENTS", "TIMELINE", "embedded", "timeline"]

TIMELINE = "timeline.html"
"""The name of the page in the folder of a failure."""
MOST_EVENTS = 60_000
"""Events in a page: those of some 20,000 requests. A browser shows so many within a second or two."""
_FEW = 12
"""Requests that touch no token, which are drawn like all others; of more, a notice tells."""
_LONGEST = 300
"""Characters of that notice."""
_MOST_ROWS = 300
"""Rows of the table for browsers without JavaScript."""


def timeline(
    history: History,
    *,
    verdict: Verdict | None = None,
    headline: str | None = None,
    around: int | None = None,
    most: int = MOST_EVENTS,
) -> str:
    """The whole page as a text of plain ASCII.

    ``verdict``: by default the history is judged. ``headline``: what was found, if it is not the first violation.
    ``around``: the ``seq`` in the middle of what is shown of a history that has more than ``most`` events.
    """
    verdict = judge(history) if verdict is None else verdict
    shown, folded = _folded(history, verdict, around)
    drawn = facts(shown, verdict.violations, most=most, around=around)
    if headline is None and verdict.violations:
        headline = f"{qualified_name(verdict.violations[0])}: {verdict.violations[0]}"
    notices = [*_notices(history, drawn), *folded]
    code, style = _file("page.js"), _file("page.css")
    parts = {
        "policy": f"default-src 'none'; script-src '{_digest(code)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'",
        "title": _text(headline or str(verdict.state)),
        "verdict": _text(str(verdict.state)),
        "headline": _text(headline or _sum(history, verdict)),
        "notices": "".join(f'<p class="notice" role="note">{_text(text)}</p>\n' for text in notices),
        "story": _text(_story(history, verdict)),
        "rows": _rows(shown, drawn),
        "data": _json(drawn),
        "style": style,
        "script": code,
    }
    before, *rest = _file("page.html").split("{{")
    return before + "".join(parts[name] + text for name, text in (part.split("}}", 1) for part in rest))


def embedded(page: str) -> str:
    """The page in a frame of its own, as HTML that can stand within another page."""
    return f'<iframe class="claude-tokens" sandbox="allow-scripts" srcdoc="{_text(page)}"></iframe>'


@cache
def _file(name: str) -> str:
    return (files("pytest_claude_tokens") / "report" / "timeline" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression by which a Content-Security-Policy allows just this script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# What stands between tags.


def _text(text: str) -> str:
    """``text`` as plain ASCII that is safe between tags and in attributes, and that nobody takes for a link."""
    return html.escape(ascii_only(text)).replace("://", ":&#47;&#47;")


def _json(value: Any) -> str:
    """``value`` as JSON that is safe within `<script>`: no tag can begin or end in it."""
    text = json.dumps(value, separators=(",", ":"))  # ASCII: U+2028 and all others are escaped already
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.replace("//", "\\/\\/")


def _sum(history: History, verdict: Verdict) -> str:
    reasons = "; ".join(map(str, verdict.reasons))
    return f"{count(len(history.operations), 'request')}{f': {reasons}' if reasons else ', no violation'}"


def _folded(history: History, verdict: Verdict, around: int | None) -> tuple[History, list[str]]:
    """The history without the requests that touch no token, if they are many and not all there is; and what says so.

    A process of the real CLI sends a dozen of them at its start.
    """
    needed = {0 if around is None else around}
    for violation in verdict.violations:
        needed |= {violation.seq, *(op.opened for op in violation.operations)}
    side = aside(history, needed)
    if not _FEW < len(side) < len(history.operations):
        return history, []
    events = [event for event in history if event.op not in side]
    rest = History(history.header, events, torn=history.torn, notes=history.notes)
    return rest, [f"Not drawn: {clip(summed_up(side.values()), _LONGEST)}"]


def _notices(history: History, drawn: Mapping[str, Any]) -> list[str]:
    """What is not shown, and what is not whole."""
    missing = sum(size for _, size in drawn["gaps"])
    notices = [f"The history is torn: {note}." for note in history.notes]
    if missing:
        notices.append(
            f"Truncated: {len(drawn['events']):,} of {drawn['total']:,} events are shown, {missing:,} are left out. "
            "`claude-tokens timeline HISTORY.jsonl --around SEQ` draws those near another event."
        )
    if drawn["unlisted"]:
        notices.append(f"Besides the violations that one can jump to, {drawn['unlisted']:,} more were found.")
    return notices


def _story(history: History, verdict: Verdict) -> str:
    """The first lines of the story: the two sides, why, and what comes after."""
    try:
        if verdict.violations:
            text = story(history, verdict.violations[0])
        else:
            text = plain_story(history, str(verdict.state) + "".join(f"; {note}" for note in verdict.notes))
    except Exception as error:  # noqa: BLE001 - a file not written by us may hold anything; its picture stands
        return f"The story can't be told: {type(error).__name__}: {error}"
    return "\n\n".join(text.split("\n\n")[:2])


def _rows(history: History, drawn: Mapping[str, Any]) -> str:
    """The events as rows of a table, for browsers without JavaScript: the first, and those near the first violation."""
    events: Sequence[Sequence[Any]] = drawn["events"]
    found = drawn["violations"]
    middle = found[0]["at"] if found else 0
    first = max(0, min(middle - _MOST_ROWS // 2, len(events) - _MOST_ROWS))
    shown = events[first : first + _MOST_ROWS]
    guilty = {index for violation in found for index in violation["ops"]}
    rows = []
    for seq, t, lane, mark, text, op, _ in shown:
        at_fault = ' class="guilty"' if op in guilty and mark != "note" else ""
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in (f"#{seq}", f"{t:+.3f}", drawn["lanes"][lane][0], text))
        rows.append(f"<tr{at_fault}>{cells}</tr>\n")
    if len(shown) < len(history):
        rows.append(f'<tr><td colspan="4">{len(shown):,} of {len(history):,} events; the file has them all</td></tr>\n')
    return "".join(rows)
