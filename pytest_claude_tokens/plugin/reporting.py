"""Findings in a test's report: a section with the story, a folder with the history, a headline for JUnit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_claude_tokens.judge.violations import Violation
from pytest_claude_tokens.plugin import marker, options, pytest_internals, session, xdist
from pytest_claude_tokens.report import folder as report_folder
from pytest_claude_tokens.report.body_error import unshown
from pytest_claude_tokens.report.evidence import HISTORY, Evidence, evidence_of, findings
from pytest_claude_tokens.report.section import SECTION, section
from pytest_claude_tokens.report.timeline import TIMELINE, embedded, timeline

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History

__all__ = ["FACTS", "HISTORIES", "SECONDARY", "drawn", "save", "tell"]

FACTS = pytest.StashKey[dict[str, Any]]()
"""In an item: facts that travel with its call's report as ``report.claude_tokens``, in a form that JSON can hold."""

SECONDARY = pytest.StashKey[list[Violation]]()
"""In an item: secondary findings, for the report of a call that failed by an error that they must not replace."""

HISTORIES = pytest.StashKey[list[Callable[[], "History"]]]()
"""In an item: what returns the history of the handle that is the test's own."""

_PROPERTY = "claude_tokens"


def save(item: pytest.Item, known: Evidence) -> None:
    """Write the folder of a failure of ``item``, and record its path in ``known``."""
    try:
        folder, missing = report_folder.save(options.report_folder(item.config), xdist.plain_id(item), known)
    except OSError as error:
        known.folder, known.trouble = None, f"no history was written: {error.strerror or error}"
    else:
        known.trouble = "\n".join(f"no {name} was written: {why.strerror or why}" for name, why in missing.items())
        known.files = {name: text for name, text in known.files.items() if name not in missing}
        start = item.config.invocation_params.dir
        known.folder = str(folder.relative_to(start) if folder.is_relative_to(start) else folder)


def tell(item: pytest.Item, error: BaseException | None, made: pytest.TestReport) -> None:
    """Add the findings to the report of a phase of ``item``, which ended with ``error``."""
    called = made.when == "call"
    found = [*findings(error), *(item.stash.get(SECONDARY, ()) if called else ())]
    pages = [_add_section(item, error, one, number, made) for number, one in enumerate(found, 1)]
    if called and not found and options.option(item.config, "html") == "always":
        pages += _draw_passed(item)
    facts = _facts(item, found, called=called)
    if facts is not None:
        made.__dict__["claude_tokens"] = facts
    _add_properties(item, facts or {}, made)
    _embed(item, [page for page in pages if page is not None], made)
    first = found[0] if found else error
    if first is not None and (found or (called and marker.is_explored(item))):
        _shorten(item, error, first, made.longrepr)


def _facts(item: pytest.Item, found: Sequence[BaseException], *, called: bool) -> dict[str, Any] | None:
    """What the summary tells of the test; ``None`` if it didn't use the plugin, or another phase tells it."""
    facts = item.stash.get(FACTS, None) if called else None
    broken = [one for one in found if _is_violation(one)]
    known = [evidence for one in found if (evidence := evidence_of(one)) is not None]
    failed = [one for one in found if one not in broken] if any(one.replay for one in known) else []
    if facts is None and not broken:
        return None
    facts = {"test": xdist.plain_id(item), **(facts or {})}
    if broken or failed:
        again = item.config.stash[session.COMMAND](item)
        facts |= {
            "violations": [_headline(one) for one in broken],
            "failures": [_headline(one) for one in failed],
            "replay": [evidence.replay or again for evidence in known],
            "folders": [evidence.folder for evidence in known if evidence.folder is not None],
            "file": str(item.path),
            "line": (item.location[1] or 0) + 1,
        }
    return facts


def _add_section(
    item: pytest.Item, error: BaseException | None, finding: BaseException, number: int, made: pytest.TestReport
) -> str | None:
    """Write the history of finding ``number`` of this report, and add its story as a section; returns its timeline."""
    known = evidence_of(finding)
    assert known is not None
    if not options.is_in_full(item.config) and finding is error:
        known.error = known.error or unshown(finding)
    else:
        known.error = ""
    known.name = _numbered(HISTORY, number)
    page = None
    if options.option(item.config, "html") != "never":
        page = drawn(known, finding)
        known.files = {**known.files, _numbered(TIMELINE, number): page}
    save(item, known)
    text = section(finding)
    text = text if finding is error else f"{_headline(finding)}\n{text}"
    # A section of the `longrepr` is shown even under --show-capture=no.
    add = getattr(made.longrepr, "addsection", lambda *new: made.sections.append(new))
    add(SECTION, text)
    return page


def _draw_passed(item: pytest.Item) -> list[str]:
    """Write the history of a test without findings, if it made one, and its timeline, which is returned."""
    pages = []
    for history in item.stash.get(HISTORIES, ()):
        known = Evidence(history=history())
        pages.append(drawn(known))
        known.files = {TIMELINE: pages[-1]}
        save(item, known)
    return pages


def _numbered(name: str, number: int) -> str:
    """The file's name for finding ``number`` of a report."""
    stem, _, ending = name.partition(".")
    return name if number == 1 else f"{stem}-{number}.{ending}"


def drawn(known: Evidence, finding: BaseException | None = None) -> str:
    """The timeline of that history; a history that can't be drawn must not hide the finding."""
    try:
        return timeline(known.history, headline=None if finding is None else _headline(finding))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the picture, the finding is told
        return f"<!DOCTYPE html><title>No timeline</title>No timeline could be drawn: {type(error).__name__}\n"


def _add_properties(item: pytest.Item, facts: Mapping[str, Any], made: pytest.TestReport) -> None:
    """Name the violations in the JUnit file, which takes the properties from the teardown's report."""
    if made.when == "setup":  # the item may run a second time (pytest-rerunfailures): drop the first run's
        item.user_properties[:] = [pair for pair in item.user_properties if not pair[0].startswith(_PROPERTY)]
    properties = [(_PROPERTY, headline) for headline in facts.get("violations", ())]
    if "explored" in facts:
        numbers = ((name, facts["explored"].get(name)) for name in ("schedules", "histories"))
        properties += [(f"{_PROPERTY}.{name}", str(number)) for name, number in numbers if number is not None]
    for name in ("replay", "folders"):
        properties += [(f"{_PROPERTY}.{name.rstrip('s')}", value) for value in dict.fromkeys(facts.get(name, ()))]
    item.user_properties += properties
    made.user_properties += properties


def _embed(item: pytest.Item, pages: Sequence[str], made: pytest.TestReport) -> None:
    """Put the timelines into the report of pytest-html, if there is to be one."""
    # By its entry point, or named with `-p`.
    if pages and any(map(item.config.pluginmanager.hasplugin, ("html", "pytest_html.plugin"))):
        from pytest_html import extras  # type: ignore[import-not-found, import-untyped, unused-ignore]

        made.__dict__["extras"] = [*getattr(made, "extras", ()), *(extras.html(embedded(page)) for page in pages)]


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
