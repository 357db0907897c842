"""Evidence: facts attached to a finding where it is raised, and found again through exception groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History

__all__ = ["HISTORY", "Evidence", "attach", "evidence_of", "findings", "notes_of", "set_notes"]

HISTORY = "history.jsonl"
"""The name of the history file in the folder of a failure."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Facts about a finding, for its report.

    ``replay``: a shell command. ``error``: the error of the body that pytest does not show in full. ``why``: which
    lines raced, of a finding that is no violation. ``workers``: how many a search had, if it was one. ``remarks``: how
    it was found, line by line. ``files``: names and texts of further files for the failure's folder. ``folder``: its
    path as shown to people; ``name``: the history's file name in it. ``trouble``: why saving failed.
    """

    history: History
    name: str = HISTORY
    replay: str | None = None
    error: str = ""
    why: str = ""
    workers: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    folder: str | None = None
    trouble: str | None = None


def attach(finding: BaseException, evidence: Evidence) -> None:
    """Attach ``evidence`` to ``finding`` before it is raised."""
    finding.__dict__["evidence"] = evidence


def evidence_of(finding: BaseException) -> Evidence | None:
    """The evidence attached to ``finding``, if any."""
    found = getattr(finding, "evidence", None)
    return found if isinstance(found, Evidence) else None


# Written into the exception's own dictionary: a class of the user's may refuse to have attributes set, as a frozen
# dataclass does, and the error of that refusal must not take the place of his error.


def notes_of(error: BaseException | None) -> list[str]:
    """The notes of an exception (PEP 678)."""
    found = getattr(error, "__notes__", None)
    return [note for note in found if isinstance(note, str)] if isinstance(found, list | tuple) else []


def set_notes(error: BaseException, notes: Sequence[str]) -> None:
    """Give an exception these notes and no others."""
    if notes:
        error.__dict__["__notes__"] = list(notes)
    else:
        error.__dict__.pop("__notes__", None)


def findings(error: BaseException | None) -> Iterator[BaseException]:
    """The exceptions with evidence among ``error``, the members of groups, and causes."""
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
