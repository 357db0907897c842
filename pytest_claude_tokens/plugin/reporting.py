"""Findings in a test's report: a section with the story, a folder with the history, a headline for JUnit."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_claude_tokens.judge.violations import Violation
from pytest_claude_tokens.plugin import marker, options, pytest_internals
from pytest_claude_tokens.report import folder as report_folder
from pytest_claude_tokens.report.body_error import unshown
from pytest_claude_tokens.report.evidence import HISTORY, Evidence, evidence_of, findings
from pytest_claude_tokens.report.section import SECTION, section

__all__ = ["FACTS", "SECONDARY", "save", "tell"]

FACTS = pytest.StashKey[dict[str, Any]]()
"""In an item: facts that travel with its call's report as ``report.claude_tokens``, in a form that JSON can hold."""

SECONDARY = pytest.StashKey[list[Violation]]()
"""In an item: secondary findings, for the report of a call that failed by an error that they must not replace."""

_PROPERTY = "claude_tokens"


def save(item: pytest.Item, known: Evidence) -> None:
    """Write the folder of a failure of ``item``, and record its path in ``known``."""
    try:
        folder = report_folder.save(options.report_folder(item.config), item.nodeid, known)
    except OSError as error:
        known.folder, known.trouble = None, f"no history was written: {error.strerror or error}"
    else:
        start = item.config.invocation_params.dir
        known.folder = str(folder.relative_to(start) if folder.is_relative_to(start) else folder)


def tell(item: pytest.Item, error: BaseException | None, made: pytest.TestReport) -> None:
    """Add the findings to the report of a phase of ``item``, which ended with ``error``."""
    called = made.when == "call"
    found = [*findings(error), *(item.stash.get(SECONDARY, ()) if called else ())]
    for number, one in enumerate(found, 1):
        _add_section(item, error, one, number, made)
    facts = item.stash.get(FACTS, {}).copy() if called else {}
    violations = [_headline(one) for one in found if _is_violation(one)]
    if violations:
        facts["violations"] = violations
    if facts:
        made.__dict__["claude_tokens"] = {"test": item.nodeid, **facts}
    _add_properties(item, violations, made)
    first = found[0] if found else error
    if first is not None and (found or (called and marker.is_explored(item))):
        _shorten(item, error, first, made.longrepr)


def _add_section(
    item: pytest.Item, error: BaseException | None, finding: BaseException, number: int, made: pytest.TestReport
) -> None:
    """Write the history of finding ``number`` of this report, and add its story as a section."""
    known = evidence_of(finding)
    assert known is not None
    if not options.is_in_full(item.config) and finding is error:
        known.error = known.error or unshown(finding)
    else:
        known.error = ""
    known.name = HISTORY if number == 1 else f"history-{number}.jsonl"
    save(item, known)
    text = section(finding)
    text = text if finding is error else f"{_headline(finding)}\n{text}"
    # A section of the `longrepr` is shown even under --show-capture=no.
    add = getattr(made.longrepr, "addsection", lambda *new: made.sections.append(new))
    add(SECTION, text)


def _add_properties(item: pytest.Item, violations: list[str], made: pytest.TestReport) -> None:
    """Name the violations in the JUnit file, which takes the properties from the teardown's report."""
    if made.when == "setup":  # the item may run a second time (pytest-rerunfailures): drop the first run's
        item.user_properties[:] = [pair for pair in item.user_properties if pair[0] != _PROPERTY]
    properties = [(_PROPERTY, headline) for headline in violations]
    item.user_properties += properties
    made.user_properties += properties


def _is_violation(finding: BaseException) -> bool:
    """Whether an invariant was broken.

    A search also reports findings that are no violations: a body that failed by itself, or was refused the real
    service.
    """
    return isinstance(finding, AssertionError) and type(finding).__module__ == "claude_tokens"


def _headline(finding: BaseException) -> str:
    return f"{type(finding).__module__}.{type(finding).__name__}: {finding}".removeprefix("builtins.")


def _shorten(item: pytest.Item, error: BaseException | None, first: BaseException, longrepr: Any) -> None:
    """Show the finding's headline at the test, without our own code; a group's message would hide the headline."""
    group, full = isinstance(error, BaseExceptionGroup), options.is_in_full(item.config)
    if not (group or error is first):
        return
    if not full:
        pytest_internals.keep_last(longrepr)
    line = (item.location[1] or 0) + 1
    pytest_internals.redescribe(
        longrepr, str(item.path), line, _headline(first), always=group, empty=group and not full
    )
