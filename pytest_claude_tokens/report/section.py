"""The section ``claude-tokens history`` of a failed test's report."""

from __future__ import annotations

from typing import Any

from pytest_claude_tokens.judge.violations import Violation
from pytest_claude_tokens.report.body_error import headline
from pytest_claude_tokens.report.evidence import evidence_of
from pytest_claude_tokens.report.story import plain_story, story

__all__ = ["SECTION", "section"]

SECTION = "claude-tokens history"
"""The section's title."""


def section(finding: BaseException) -> str:
    """The text of the section for one finding that has evidence."""
    evidence = evidence_of(finding)
    assert evidence is not None
    context: dict[str, Any] = {
        "replay": evidence.replay,
        "error": evidence.error,
        "remarks": evidence.remarks,
        "workers": evidence.workers,
        "folder": evidence.folder,
        "files": (evidence.name, *evidence.files),
    }
    if isinstance(finding, Violation):
        text = story(evidence.history, finding, in_test=True, **context)
    else:
        text = plain_story(evidence.history, _headline(finding), why=evidence.why, **context)
    return f"{text}\n{evidence.trouble}" if evidence.trouble else text


def _headline(finding: BaseException) -> str:
    """One line: the message of a violation; class and message of an exception that the test's body raised."""
    if type(finding).__module__ == "claude_tokens":
        return str(finding)
    worker = getattr(finding, "claude_tokens_worker", None)
    return headline(finding) if worker is None else f"{worker} raised {headline(finding)}"
