"""An explored test outside of pytest: runs it, and returns its result as a value instead of raising it."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hypothesis import Phase

from fake_server.genuine import time
from pytest_claude_tokens.search.context import CONTEXT, ExplorationContext, Report
from pytest_claude_tokens.search.hypothesis_engine import storing_in
from pytest_claude_tokens.search.plan import Options, checked, planned
from pytest_claude_tokens.search.session import stage
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_claude_tokens.report.evidence import Evidence
    from pytest_claude_tokens.runs.outcome import Outcome

__all__ = ["PHASES", "Searched", "nothing_kept", "run_alone", "run_once"]

PHASES = (Phase.generate, Phase.shrink)
"""What such a search does: it has no example database, and so nothing to begin with."""


@dataclass(slots=True)
class Searched:
    """The result of a search. ``error``: the exception that a test would raise; ``evidence``: its evidence."""

    report: Report = field(default_factory=Report)
    error: Exception | None = None
    evidence: Evidence | None = None
    seconds: float = 0.0

    @property
    def found(self) -> Any:
        """The counterexample: the schedule, its number, the replay token."""
        return getattr(self.error, "claude_tokens_found", None)


def run_alone(explored: Callable[[], None], context: ExplorationContext) -> Searched:
    """Run a test that :func:`explore` has made, in ``context``, which keeps nothing of it."""
    result = Searched()
    own = replace(
        context,
        reported=lambda report: setattr(result, "report", report),
        failed=lambda evidence: setattr(result, "evidence", evidence),
    )
    began = time.monotonic()
    with nothing_kept():
        result.error = copy_context().run(_run, explored, own)
    result.seconds = time.monotonic() - began
    return result


def run_once(body: Callable[..., object], workers: int, **handle: Any) -> Outcome:
    """One run of ``body`` in default order and simulated time, outside of any search; ``handle``: of its handle."""
    options = Options(workers=workers)
    with stage(planned(body, checked(options)), ExplorationContext(handle=handle)) as execute:
        return execute(DEFAULT_ORDER, {})


def _run(explored: Callable[[], None], context: ExplorationContext) -> Exception | None:
    CONTEXT.set(context)
    try:
        explored()
    except Exception as error:  # any error is a result to print
        return error
    return None


@contextmanager
def nothing_kept() -> Iterator[None]:
    """In the block, Hypothesis writes into a temporary folder, not into one below the current folder."""
    with tempfile.TemporaryDirectory(prefix="claude-tokens.") as folder, storing_in(folder):
        yield
