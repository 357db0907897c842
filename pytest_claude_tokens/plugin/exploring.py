"""The hooks around an explored test: its settings go in, how hard it was looked comes out."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_claude_tokens.plugin import options
from pytest_claude_tokens.search import context

if TYPE_CHECKING:
    from pytest_claude_tokens.report.evidence import Evidence

__all__ = ["Search", "command", "is_explored"]


class Search:
    """Registered by the plugin."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Refuse a fixture that would be made once for all schedules."""
        __tracebackhide__ = True
        if is_explored(item):
            name = _made_once(item)
            if name is not None:
                pytest.fail(_MADE_ONCE.format(item.nodeid, name), pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Tell the search which test it is for."""
        __tracebackhide__ = True
        if not is_explored(item):
            return (yield)
        token = context.CONTEXT.set(_context(item))
        try:
            return (yield)
        finally:
            context.CONTEXT.reset(token)


_MADE_ONCE = (
    "{}: the fixture {} is made once for a test, and @explore runs the body many times: give it module or session "
    "scope, or make what it gives inside the body (tokens.tmp_path is fresh for each schedule)."
)


def is_explored(item: pytest.Item) -> bool:
    """Whether the test is one of ``@explore``."""
    function = getattr(item, "obj", None)
    return bool(getattr(function, "is_claude_tokens_exploration", False))


def _made_once(item: Any) -> str | None:
    """The name of an argument of the test's that is a fixture of function scope."""
    for name in item._fixtureinfo.argnames:  # noqa: SLF001 - pytest has no public way to ask
        for definition in item._fixtureinfo.name2fixturedefs.get(name, ())[-1:]:  # noqa: SLF001
            if definition.scope == "function" and name != "request" and not _is_parameter(item, name):
                return str(name)
    return None


def _is_parameter(item: Any, name: str) -> bool:
    """Whether the value comes from ``parametrize``: it is the same in each schedule, and nothing is made."""
    return name in getattr(getattr(item, "callspec", None), "params", {})


def _context(item: Any) -> context.ExplorationContext:
    from pytest_claude_tokens.plugin import call_phase

    config = item.config
    call_phase.register(config)
    settings = options.marked(item)
    if "policy" not in settings:
        settings = options.merge(settings, {"policy": item._request.getfixturevalue("claude_tokens_policy")})  # noqa: SLF001 - idem

    def reported(report: context.Report) -> None:
        facts = item.stash.setdefault(call_phase.FACTS, {})
        facts["explored"] = {"schedules": report.schedules, "summary": report.text()}

    def failed(known: Evidence) -> None:
        call_phase.save(item, known)

    return context.ExplorationContext(
        handle=settings,
        examples=options.option(config, "examples"),
        seed=options.option(config, "seed"),
        replay=options.option(config, "replay"),
        command=command(item),
        reported=reported,
        failed=failed,
    )


def command(item: pytest.Item) -> str:
    """How to run this test again, as a line for a shell in the folder in which pytest was called."""
    start = item.config.invocation_params.dir
    name = item.nodeid.partition("::")[2]
    path = os.path.relpath(item.path, start)
    ours = shutil.which("pytest")
    called = ours is not None and os.path.dirname(os.path.realpath(ours)) == os.path.dirname(
        os.path.realpath(sys.argv[0])
    )
    program = "pytest" if called else f"{shlex.quote(sys.executable)} -m pytest"
    return f"{program} {_quoted(f'{path}::{name}' if name else path)}"


def _quoted(text: str) -> str:
    """In double quotes where that is safe: so people are used to see it."""
    return shlex.quote(text) if any(char in text for char in '"$`\\!') else f'"{text}"'
