"""The hooks around an explored test: they pass settings to the search, and its tally to the report."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_claude_tokens.plugin import marker, options, pytest_internals, session, xdist
from pytest_claude_tokens.search import context

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.history import History
    from pytest_claude_tokens.report.evidence import Evidence

__all__ = ["Search", "command"]


class Search:
    """The hooks, as an object that the plugin registers."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Refuse a fixture of function scope: it would be set up once for all schedules."""
        __tracebackhide__ = True
        if marker.is_explored(item):
            given = getattr(getattr(item, "obj", None), "hypothesis", None)
            if hasattr(getattr(given, "inner_test", None), "hypothesis"):  # what it wraps is a property already
                pytest.fail(_GIVEN.format(item.nodeid), pytrace=False)
            name = _made_once(item)
            if name is not None:
                pytest.fail(_MADE_ONCE.format(item.nodeid, name), pytrace=False)

    def pytest_enter_pdb(self) -> None:
        """Simulated time stands still, and deadlines of the service's with it, as long as somebody looks around."""
        _note_debugger(stopped=True)

    def pytest_leave_pdb(self) -> None:
        """It goes on."""
        _note_debugger(stopped=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Set the context in which the search finds this test's settings; and let a body's own error be told."""
        __tracebackhide__ = True
        try:
            return (yield from _in_context(item))
        except Exception as error:
            meant = item.stash.get(session.ENDED, None)
            if meant is None or error.__context__ is not meant or not _refuses_a_traceback(meant):
                raise
        finally:
            item.stash.setdefault(session.ENDED, None)
            del item.stash[session.ENDED]  # its frames are not to be kept alive
        raise meant  # and not that pytest's own context managers could not assign to it


def _in_context(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    if not marker.is_explored(item):
        return (yield)
    with _progress(item.config) as progress:
        token = context.CONTEXT.set(_context(item, progress))
        try:
            return (yield)
        finally:
            context.CONTEXT.reset(token)


def _refuses_a_traceback(error: BaseException) -> bool:
    """Whether an error can't be assigned to, as one of a frozen dataclass."""
    try:
        error.__traceback__ = error.__traceback__
    except Exception:  # noqa: BLE001 - whatever its class says to that
        return True
    return False


_WATCHDOG = "pytest_claude_tokens.runs.watchdog"
"""The module that takes a thread for stuck which sleeps outside the simulation; a test checks that it exists."""


_CLOCK = "fake_server.clock"
"""The module that counts for how long somebody looks, for requests that are held for so many real seconds."""


def _note_debugger(*, stopped: bool) -> None:
    watchdog: Any = sys.modules.get(_WATCHDOG)
    if watchdog is not None:
        watchdog.DEBUGGER.stopped = stopped
    clock: Any = sys.modules.get(_CLOCK)
    if clock is not None:
        (clock.DEBUGGED.begin if stopped else clock.DEBUGGED.end)()


_GIVEN = (
    "{}: @given stands above @explore, which stands in for it: give the strategies to explore(), as in "
    "@explore(n=st.integers()), and leave @given out."
)
_MADE_ONCE = (
    "{}: the fixture {} is made once for a test, and @explore runs the body many times: give it module or session "
    "scope, or make what it gives inside the body (tokens.tmp_path is fresh for each schedule)."
)


def _made_once(item: Any) -> str | None:
    """The name of an argument of the test that is a fixture of function scope; ``None`` if there is none."""
    for name, scope in pytest_internals.fixture_scopes(item):
        if scope == "function" and name != "request" and not _is_parameter(item, name):
            return name
    return None


def _is_parameter(item: Any, name: str) -> bool:
    """Whether the value comes from ``parametrize``: then nothing is set up, and all schedules may share it."""
    return name in getattr(getattr(item, "callspec", None), "params", {})


@contextmanager
def _progress(config: pytest.Config) -> Iterator[Callable[[int, int], object]]:
    """What is told of each schedule: with ``-v`` on a terminal it shows how far the search has come."""
    terminal = pytest_internals.terminal(config) if config.get_verbosity() > 0 else None
    if terminal is None:
        yield lambda schedules, histories: None
        return
    from fake_server.clock import stopwatch
    from pytest_claude_tokens.report.progress import Progress

    progress = Progress(terminal.write, stopwatch(), terminal.room)
    try:
        yield progress
    finally:
        progress.close()


def _context(item: Any, progress: Callable[[int, int], object]) -> context.ExplorationContext:
    from pytest_claude_tokens.plugin import call_phase, reporting

    config = item.config
    call_phase.register(config)
    settings = marker.completed(marker.marked(item), lambda name: pytest_internals.fixture_value(item, name))

    def reported(report: context.Report) -> None:
        facts = item.stash.setdefault(reporting.FACTS, {})
        numbers = {"schedules": report.schedules, "histories": report.histories}
        facts["explored"] = {**numbers, "summary": report.text()}

    def failed(known: Evidence) -> None:
        reporting.save(item, known)

    def passed(history: History) -> None:
        item.stash.setdefault(reporting.HISTORIES, []).append(lambda: history)

    return context.ExplorationContext(
        handle=settings,
        examples=options.option(config, "examples"),
        seed=options.option(config, "seed"),
        replay=options.option(config, "replay"),
        full=options.is_in_full(config),
        command=command(item),
        starting=pytest_internals.output(config),
        reported=reported,
        failed=failed,
        progress=progress,
        passed=passed if options.option(config, "html") == "always" else None,
    )


def command(item: pytest.Item) -> str:
    """The shell command that runs this test again, from the folder in which pytest was called."""
    start = item.config.invocation_params.dir
    name = xdist.plain_id(item).partition("::")[2]
    path = os.path.relpath(item.path, start)
    return f"{_program(_called_as(item.config))} {_quoted(f'{path}::{name}' if name else path)}"


def _called_as(config: Any) -> str:
    """The program that was started; a worker of pytest-xdist has it from the controller."""
    argv = getattr(config, "workerinput", {}).get("mainargv") or sys.argv
    return str(argv[0])


def _program(called: str) -> str:
    """What starts pytest in this interpreter's environment, in the shell of whoever reads the line.

    Not ``pytest`` if it was started as ``python -m pytest``, which puts the current folder on the path for imports.
    """
    if os.path.basename(called) != "__main__.py" and _is_beside(shutil.which("pytest")):
        return "pytest"
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found is not None and _is_beside(found) and os.path.samefile(found, sys.executable):
            return f"{name} -m pytest"
    return f"{shlex.quote(sys.executable)} -m pytest"


def _is_beside(program: str | None) -> bool:
    """Whether a program is in this interpreter's folder. All environments share what its links lead to."""
    return program is not None and _folder(program) == _folder(sys.executable)


def _folder(program: str) -> str:
    return os.path.realpath(os.path.dirname(os.path.abspath(program)))


def _quoted(text: str) -> str:
    """``text`` in double quotes, the usual form, where they are safe; else quoted by ``shlex``."""
    return shlex.quote(text) if any(char in text for char in '"$`\\!') else f'"{text}"'
