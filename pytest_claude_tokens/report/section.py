"""The section ``claude-tokens history`` of a failed test's report."""

from __future__ import annotations

from typing import Any

from pytest_claude_tokens.judge.violations import Violation
from pytest_claude_tokens.report.evidence import evidence
from pytest_claude_tokens.report.story import plain_story, story
from pytest_claude_tokens.report.verdict import qualified_name

__all__ = ["SECTION", "section"]

SECTION = "claude-tokens history"
"""Its title."""


def section(finding: BaseException) -> str:
    """The text of the section for one finding that has evidence."""
    known = evidence(finding)
    assert known is not None
    context: dict[str, Any] = {
        "replay": known.replay,
        "remarks": known.remarks,
        "folder": known.folder,
        "files": (known.name, *known.files),
    }
    if isinstance(finding, Violation):
        text = story(known.history, finding, sources=known.sources, in_test=True, **context)
    else:
        text = plain_story(known.history, _headline(finding), **context)
    return f"{text}\n{known.trouble}" if known.trouble else text


def _headline(finding: BaseException) -> str:
    """One line: the message of an exception of ours; the class and the message of one that the test's body raised."""
    if type(finding).__module__ == "claude_tokens":
        return str(finding)
    return f"{qualified_name(finding)}: {finding}".splitlines()[0]
