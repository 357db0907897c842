"""Every private name of pytest that this package uses, each with what it is for.

Pytest has no public way to ask for these. Each function has a test of its own in
``tests/plugin/test_pytest_internals.py`` that fails when a new pytest no longer has the name, and says what to do then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

__all__ = ["errors_of_unittest", "fixture_scopes", "fixture_value", "redescribe"]


def fixture_scopes(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """The name and the scope of each fixture that the test function has an argument for (``_fixtureinfo``)."""
    info: Any = item._fixtureinfo  # type: ignore[attr-defined]  # noqa: SLF001
    for name in info.argnames:
        for definition in info.name2fixturedefs.get(name, ())[-1:]:  # the last one overrides the others
            yield name, definition.scope


def fixture_value(item: pytest.Item, name: str) -> Any:
    """The value of a fixture as that test sees it, overrides included, asked from outside of it (``_request``)."""
    return item._request.getfixturevalue(name)  # type: ignore[attr-defined]  # noqa: SLF001


def errors_of_unittest(item: pytest.Item) -> list[pytest.ExceptionInfo[BaseException]]:
    """How the method of a ``unittest.TestCase`` ended: pytest raises it nowhere, and keeps it in ``_excinfo``.

    The list itself: what is put into it is what the report will tell. Empty for any other test.
    """
    return getattr(item, "_excinfo", None) or []


def redescribe(longrepr: Any, path: str, line: int, message: str, *, always: bool) -> None:
    """Let a failure's report say ``message`` at ``path:line`` in place of its own last line, and show no code.

    ``always=False``: only where all the frames of the traceback are hidden, which pytest tells in ``extraline``. A
    report that has no ``chain`` (``--tb=native``) stays as it is.
    """
    if not getattr(longrepr, "chain", None):
        return
    from _pytest._code.code import ReprFileLocation

    trace, _, description = longrepr.chain[-1]
    if always or trace.extraline is not None:
        trace.extraline = None
        crash = ReprFileLocation(path, line, message)
        longrepr.chain[-1] = (trace, crash, description)
        longrepr.reprcrash = crash
