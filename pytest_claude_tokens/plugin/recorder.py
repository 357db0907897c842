"""The recorder of a handle: saves the evidence of its findings for the report of the running test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_claude_tokens.plugin import reporting, session
from pytest_claude_tokens.report.evidence import Evidence, attach
from pytest_claude_tokens.simulation.lines import Lines

if TYPE_CHECKING:
    from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
    from pytest_claude_tokens.judge.violations import Unknown, Unserved, Violation

__all__ = ["Recorder", "recorders"]

_OPEN = pytest.StashKey[list["Recorder"]]()


def recorders(config: pytest.Config) -> list[Recorder]:
    """The recorders of the open handles, in the order in which they were opened."""
    return list(config.stash.get(_OPEN, ()))


class Recorder:
    """The plugin's :class:`~pytest_claude_tokens.handle.runtime.Recorder`, one for each handle.

    While its handle is open, the call phase judges the handle whenever a test's body has ended. ``own``: the handle
    belongs to one test, and its history ends with that test's body.
    """

    handle: ClaudeTokens

    def __init__(self, config: pytest.Config, *, own: bool) -> None:
        self.own = own
        self._config = config
        self._lines = Lines()

    def on_open(self) -> None:
        """Register the handle with the call phase, which judges it whenever a test's body has ended."""
        self._config.stash.setdefault(_OPEN, []).append(self)
        item = session.current(self._config)
        item.stash.setdefault(reporting.FACTS, {})
        if self.own:
            item.stash.setdefault(reporting.HISTORIES, []).append(lambda: self.handle.history.taken())  # noqa: PLW0108 - there is no handle yet
        self.handle.server.journal.observers.append(self._lines.observe)

    def on_close(self) -> None:
        """Unregister the handle: the call phase no longer judges it."""
        opened = self._config.stash.get(_OPEN, [])
        if self in opened:
            opened.remove(self)

    def on_finding(self, found: Violation | Unserved | Unknown) -> None:
        """Save the history to disk before the finding is raised."""
        known = Evidence(history=self.handle.history.taken().with_facts(self._lines.facts()))
        reporting.save(session.current(self._config), known)
        attach(found, known)

    def secondary(self) -> Violation | None:
        """The first violation, for the report of a test that failed by an error which must not be replaced."""
        found = next(iter(self.handle.finish().violations), None)
        if found is not None:
            self.on_finding(found)
        return found
