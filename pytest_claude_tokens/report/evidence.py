"""What is known beside a violation: attached where it is raised, found again through exception groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History

__all__ = ["HISTORY", "Evidence", "attach", "evidence_of", "findings"]

HISTORY = "history.jsonl"
"""The name of the history in the folder of a failure."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What is known beside a violation.

    ``replay``: a shell command. ``remarks``: how it was found, line by line. ``sources``: by an operation's number,
    the user's line that sent it. ``files``: names and texts of further files for its folder. ``folder``: where they
    were saved, as people are shown it; ``name``: that of the history there. ``trouble``: why they could not be saved.
    """

    history: History
    name: str = HISTORY
    replay: str | None = None
    sources: Mapping[int, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    folder: str | None = None
    trouble: str | None = None


def attach(finding: BaseException, evidence: Evidence) -> None:
    """Attach ``evidence`` to ``finding``, which is about to be raised."""
    finding.__dict__["evidence"] = evidence


def evidence_of(finding: BaseException) -> Evidence | None:
    """What was attached to ``finding`` as its ``evidence``, if anything was."""
    found = getattr(finding, "evidence", None)
    return found if isinstance(found, Evidence) else None


def findings(error: BaseException | None) -> Iterator[BaseException]:
    """Those exceptions that have evidence: ``error``, the members of groups, and causes."""
    todo, seen = [error], set()
    while todo:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if evidence_of(one) is not None:
            yield one
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
        todo.append(one.__cause__)
