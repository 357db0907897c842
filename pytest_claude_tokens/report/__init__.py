"""What people are told of a violation: the section of the report, the folder that it leaves, the summary.

Whoever raises a violation attaches its :class:`Evidence`; the report takes it from there, through exception groups.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History

__all__ = [
    "HISTORY",
    "SECTION",
    "Evidence",
    "attach",
    "evidence",
    "findings",
    "folder_name",
    "save",
    "section",
    "summary",
]

SECTION = "claude-tokens history"
HISTORY = "history.jsonl"

_FEW = 10  # explored tests that the summary names, unless asked for all


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


def attach(finding: BaseException, known: Evidence) -> None:
    """Let the report know what is known beside ``finding``, which is about to be raised."""
    finding.__dict__["evidence"] = known


def evidence(finding: BaseException) -> Evidence | None:
    """What was attached to ``finding`` as its ``evidence``, if anything was."""
    found = getattr(finding, "evidence", None)
    return found if isinstance(found, Evidence) else None


def findings(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and what it is made of, as far as there is evidence: through groups, and through causes."""
    todo, seen = [error], set()
    while todo:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if evidence(one) is not None:
            yield one
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
        todo.append(one.__cause__)


def section(finding: BaseException) -> str:
    """The text of the section for one finding that has evidence."""
    from pytest_claude_tokens.judge.violations import Violation
    from pytest_claude_tokens.report.story import plain_story, story

    known = evidence(finding)
    assert known is not None
    told: dict[str, Any] = {
        "replay": known.replay,
        "remarks": known.remarks,
        "folder": known.folder,
        "files": (known.name, *known.files),
    }
    if isinstance(finding, Violation):
        text = story(known.history, finding, sources=known.sources, in_test=True, **told)
    else:
        text = plain_story(known.history, _gist(finding), **told)
    return f"{text}\n{known.trouble}" if known.trouble else text


def _gist(finding: BaseException) -> str:
    """One line: of ours what it says, of an error of the body's own also its name."""
    kind = type(finding)
    if kind.__module__ == "claude_tokens":
        return str(finding)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return f"{name}: {finding}".splitlines()[0]


# The folder.


def folder_name(nodeid: str) -> str:
    """A name for the folder of that test: one that any file system takes, and that no other test has."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", nodeid.rpartition("::")[2]).strip("-.")[:60]
    return f"{readable}-{hashlib.sha256(nodeid.encode()).hexdigest()[:8]}"


def save(root: Path, nodeid: str, known: Evidence) -> Path:
    """Write the files of a failure into its folder below ``root``; each is there whole or not at all.

    Those from an earlier failure of that test are replaced. Raises ``OSError``.
    """
    folder = root / folder_name(nodeid)
    folder.mkdir(parents=True, exist_ok=True)
    _write(root / ".gitignore", "# Written by pytest-claude-tokens.\n*\n")
    lines = (event.to_json() + "\n" for event in (known.history.header, *known.history))
    _write(folder / known.name, "".join(lines))
    for name, text in known.files.items():
        _write(folder / name, text)
    return folder


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")  # of this process alone: workers of xdist share the root
    part.write_text(text, encoding="utf-8")
    part.replace(path)


# The summary.


def summary(facts: Iterable[Mapping[str, Any]], *, every: bool = False) -> Sequence[str]:
    """The lines at the end of a run, from what rides on the reports; none unless something was explored.

    A test's ``explored`` has ``schedules``, their number, and ``says``, the sentence that is shown for it.
    """
    explored = [fact for fact in facts if "explored" in fact]
    if not explored:
        return []
    schedules = sum(fact["explored"]["schedules"] for fact in explored)
    violations = sum(len(fact.get("violations", ())) for fact in explored)
    tests, broken = _count(len(explored), "test"), _count(violations, "violation")
    by_effort = sorted(explored, key=lambda fact: int(fact["explored"]["schedules"]))
    shown = by_effort if every else by_effort[:_FEW]
    return [
        f"claude-tokens: {tests}, {_count(schedules, 'schedule')}, {broken}",
        *(f"  {fact['test']}: {fact['explored']['says']}" for fact in shown),
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
