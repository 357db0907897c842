"""Every private name of pytest that this package uses, with its purpose: pytest has no public equivalent.

Each function has a test in ``tests/plugin/test_pytest_internals.py``, which fails when a new pytest no longer has the
name, and says what to do then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

__all__ = [
    "Terminal",
    "errors_of_unittest",
    "fixture_scopes",
    "fixture_value",
    "keep_last",
    "output",
    "redescribe",
    "terminal",
]


def fixture_scopes(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """The name and the scope of each fixture that the test function has an argument for (``_fixtureinfo``)."""
    info: Any = item._fixtureinfo  # type: ignore[attr-defined]  # noqa: SLF001
    for name in info.argnames:
        for definition in info.name2fixturedefs.get(name, ())[-1:]:  # the last one overrides the others
            yield name, definition.scope


def fixture_value(item: pytest.Item, name: str) -> Any:
    """The value of a fixture as that test sees it, overrides included, read from outside the test (``_request``)."""
    return item._request.getfixturevalue(name)  # type: ignore[attr-defined]  # noqa: SLF001


def errors_of_unittest(item: pytest.Item) -> list[pytest.ExceptionInfo[BaseException]]:
    """The errors of a ``unittest.TestCase``'s method: pytest does not raise them, but keeps them in ``_excinfo``.

    Returns the list itself: the report will show the errors that are put into it. Empty for any other test.
    """
    return getattr(item, "_excinfo", None) or []


@dataclass(frozen=True, slots=True)
class Terminal:
    """The terminal that pytest writes to. ``write`` shows a text at once; ``room`` is what is left of the line."""

    write: Callable[[str], object]
    room: Callable[[], int]


def terminal(config: pytest.Config) -> Terminal | None:
    """The terminal, also while a test's output is captured; ``None`` if pytest doesn't write to one.

    The plugins ``terminalreporter`` (``isatty``, ``_tw``) and ``capturemanager``, and the writer's ``_file``,
    ``fullwidth`` and ``width_of_current_line``, are not in pytest's documentation.
    """
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if reporter is None or capture is None or not reporter.isatty:
        return None
    writer = reporter._tw  # noqa: SLF001

    def write(text: str) -> None:
        with capture.global_and_fixture_disabled():
            writer._file.write(text)  # noqa: SLF001 - its own `write` would count the characters as part of the line
            writer.flush()

    return Terminal(write, lambda: int(writer.fullwidth - writer.width_of_current_line))


def output(config: pytest.Config) -> Callable[[], None]:
    """What forgets all that the running phase of a test has printed and logged so far, for its report's sections.

    ``read_global_capture`` of the plugin ``capturemanager``, and ``report_handler`` and ``caplog_handler`` of the
    plugin ``logging-plugin``, which users may switch off.
    """
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    logs: Any = config.pluginmanager.getplugin("logging-plugin")
    read = [] if capture is None else [capture.read_global_capture]
    clear = [] if logs is None else [logs.report_handler.clear, logs.caplog_handler.clear]

    def forget() -> None:
        for each in (*read, *clear):
            each()

    return forget


def keep_last(longrepr: Any) -> None:
    """Take out of a failure's report all exceptions but the one that was raised last, which is shown last."""
    if getattr(longrepr, "chain", None):
        longrepr.chain = longrepr.chain[-1:]


def redescribe(longrepr: Any, path: str, line: int, message: str, *, always: bool, empty: bool = False) -> None:
    """Make a failure's report show ``message`` at ``path:line`` instead of its own last line, and no code.

    ``always=False``: only if all frames of the traceback are hidden, which pytest notes in ``extraline``. ``empty``:
    show the message in place of the traceback. A report without a ``chain`` (``--tb=native``) is left unchanged.
    """
    if not getattr(longrepr, "chain", None):
        return
    from _pytest._code.code import ReprEntry, ReprFileLocation

    trace, _, description = longrepr.chain[-1]
    if always or trace.extraline is not None:
        trace.extraline = None
        if empty:
            trace.reprentries = [ReprEntry([f"E   {part}" for part in message.splitlines()], None, None, None, "long")]
        crash = ReprFileLocation(path, line, message)
        longrepr.chain[-1] = (trace, crash, description)
        longrepr.reprcrash = crash
