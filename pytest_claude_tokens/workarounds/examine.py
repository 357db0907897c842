"""The examination of one workaround: which invariants it breaks, under which schedules, and what was in play."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings

from fake_server.faults import COMMITTED
from fake_server.secrecy import safe_text
from pytest_claude_tokens.judge.violations import Nondeterministic, NothingRaced, Unknown, Unserved, Violation
from pytest_claude_tokens.layouts import LAYOUTS
from pytest_claude_tokens.report.story import story
from pytest_claude_tokens.search.alone import PHASES, run_alone
from pytest_claude_tokens.search.context import ExplorationContext
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.workarounds.examined import Examined
from pytest_claude_tokens.workarounds.explored import explored, situations_of
from pytest_claude_tokens.workarounds.processes import examine_processes, replay_processes

if TYPE_CHECKING:
    from pytest_claude_tokens.search.alone import Searched
    from pytest_claude_tokens.workarounds.explored import Situation
    from pytest_claude_tokens.workarounds.registry import Workaround

__all__ = ["examine", "replay"]

_UNPROVED = (Nondeterministic, NothingRaced, Unknown, Unserved)


def examine(workaround: Workaround, *, schedules: int, seed: int | None = None) -> Examined:
    """Examine a workaround: with processes where it has a layout that this machine can make, else by simulation.

    ``schedules`` are tried in each situation.
    """
    obstacle = None if workaround.layout is None else LAYOUTS[workaround.layout].obstacle
    if workaround.layout is not None and obstacle is None:
        return examine_processes(workaround, seed or 0)
    found = Examined(examined="simulated", stores=workaround.layout is not None)
    if obstacle is not None:
        found.stand_in = f"a simulated stand-in was examined, as the layout can't be made here: {obstacle}"
    lost = any(fault.kind in COMMITTED or fault.after_commit or fault.kind == "timeout" for fault in workaround.faults)
    found.unknown_outcomes = lost or workaround.cancel
    found.in_play = ["order", "delays up to 60 s", *(f"fault {fault}" for fault in workaround.faults)]
    found.in_play += ["cancellation"] if workaround.cancel else []
    for situation in situations_of(workaround):
        _search(workaround, situation, found, schedules, seed)
    return found


def _search(workaround: Workaround, situation: Situation, found: Examined, schedules: int, seed: int | None) -> None:
    """Search one situation until nothing breaks that was not known to break."""
    while not found.failed:
        allow = list(found.broken)
        context = ExplorationContext(seed=seed, handle={"allow": allow})
        result = _look(workaround, situation, context, schedules, tolerant=bool(allow))
        found.schedules += result.report.schedules
        found.histories += result.report.histories
        if result.error is None:
            break
        if isinstance(result.error, Violation):
            found.add(result.error, result.found.token, f" ({situation.text()})")
        elif situation.scarce and not isinstance(result.error, _UNPROVED):
            return  # it needs as many accounts as there are workers, and said so
        else:
            found.failed = safe_text(f"{type(result.error).__name__}: {result.error} ({situation.text()})")
    found.kinds |= {"call", "token"} if situation.expired else {"call"}
    found.in_play.append(situation.text())


def _look(
    workaround: Workaround,
    situation: Situation,
    context: ExplorationContext,
    schedules: int,
    *,
    tolerant: bool,
) -> Searched:
    test = explored(workaround, situation, tolerant=tolerant)
    return run_alone(settings(max_examples=schedules, database=None, phases=PHASES)(test), context)


def replay(workaround: Workaround, token: str) -> list[tuple[Violation, str]]:
    """Run the schedule of ``token`` again, in every situation: what breaks in each, with the story of it.

    Raises ``ValueError`` for a token that was made for something else.
    """
    if Replay.read(token).kind == "processes":
        return replay_processes(workaround, token)
    broken = []
    for situation in situations_of(workaround):
        result = _look(workaround, situation, ExplorationContext(replay=token), 1, tolerant=True)
        if isinstance(result.error, Violation) and result.evidence is not None:
            broken.append((result.error, story(result.evidence.history, result.error, kept=False)))
        elif isinstance(result.error, ValueError):
            raise result.error
    return broken
