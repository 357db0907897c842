"""The examination of a workaround by real processes: each runs the fake ``claude`` in its place of a layout.

The service holds their requests, and lets them go in the order of a schedule. A run takes about a second, so there are
few; each is made to overlap as much as it can, and what it breaks is real.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.judge.violations import Violation
from pytest_claude_tokens.layouts import LAYOUTS
from pytest_claude_tokens.report.story import story
from pytest_claude_tokens.search.context import ExplorationContext
from pytest_claude_tokens.search.explore import explore
from pytest_claude_tokens.search.plan import Options, checked, planned
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.search.session import stage
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Schedule
from pytest_claude_tokens.workarounds.examined import Examined

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_claude_tokens.search.plan import Plan
    from pytest_claude_tokens.workarounds.registry import Workaround

__all__ = ["PROCESSES", "examine_processes", "process_test", "replay_processes"]

PROCESSES = 2
"""Processes of one run."""
_COMMAND = ["claude", "-p", "Reply: done"]
_TIME_SCALE = "0.4"
"""Of the real client's pauses: 1 to 2 s between two looks at a lock, 5 times."""
_REPEATS = 6
"""Runs of a replay: the operating system has its say in each."""


def _body(layout: str, *, expired: bool) -> Callable[..., None]:
    def prompt_at_once(claude_tokens: Any, workers: Any) -> None:
        setup = layout == "setup-token"
        claude_tokens.install_claude()
        account = claude_tokens.account(expired=expired and not setup, setup_token=setup)
        places = LAYOUTS[layout].prepare(claude_tokens, len(workers), account)
        workers(
            *[place.command(_COMMAND) for place in places],
            config_dir=[place.config_dir for place in places],
            env=[{**place.env, "CLAUDE_TOKENS_TIME_SCALE": _TIME_SCALE} for place in places],
        )

    return prompt_at_once


def process_test(workaround: Workaround) -> Callable[..., None]:
    """The explored test of a workaround that has a layout."""
    assert workaround.layout is not None
    body = _body(workaround.layout, expired=True)
    body.__qualname__ = f"{workaround.name}[processes]"
    return explore(workers=PROCESSES, processes=True)(body)


def _plan(workaround: Workaround, *, expired: bool) -> Plan:
    assert workaround.layout is not None
    options = Options(workers=PROCESSES, processes=True)
    return planned(_body(workaround.layout, expired=expired), checked(options))


def _runs(seed: int) -> list[tuple[bool, Schedule]]:
    """What to run: with expired logins in default order and in another one, and with live ones, whose calls overlap."""
    return [(True, DEFAULT_ORDER), (True, Schedule(kind="walk", seed=seed)), (False, DEFAULT_ORDER)]


def examine_processes(workaround: Workaround, seed: int) -> Examined:
    """Run the processes under a few schedules."""
    found = Examined(examined="processes", stores=workaround.layout != "setup-token")
    found.in_play = ["order of requests", f"{PROCESSES} processes", "expired and live logins"]
    histories = set()
    for expired, schedule in _runs(seed):
        with stage(_plan(workaround, expired=expired), ExplorationContext()) as execute:
            outcome = execute(schedule, {})
        found.schedules += 1
        histories.add(outcome.fingerprint())
        found.kinds |= {operation.f for operation in outcome.history.operations}
        error = outcome.error or outcome.mild
        if isinstance(error, Violation):
            found.add(error, _token(schedule))
        elif error is not None:
            found.failed = f"{type(error).__name__}: {error}"
        elif not outcome.raced:
            found.failed = "no two processes were at work at once"
    found.histories = len(histories)
    return found


def _token(schedule: Schedule) -> str:
    return Replay(kind="processes", workers=PROCESSES, schedule=schedule).token()


def replay_processes(workaround: Workaround, token: str) -> list[tuple[Violation, str]]:
    """Run the schedule of ``token`` again, with expired and with live logins, until it breaks: what, and the story.

    Raises ``ValueError`` where the workaround has no layout.
    """
    if workaround.layout is None:
        raise ValueError(f"the replay token was made for processes, and {workaround.name} runs none ({token})")
    schedule = Replay.read(token).schedule
    broken: list[tuple[Violation, str]] = []
    for number in range(_REPEATS):
        if broken and number % 2 == 0:
            break
        with stage(_plan(workaround, expired=number % 2 == 0), ExplorationContext()) as execute:
            outcome = execute(schedule, {})
        error = outcome.error or outcome.mild
        if isinstance(error, Violation):
            broken.append((error, story(outcome.history, error, kept=False)))
    return broken
