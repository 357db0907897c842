"""From a failing run to the error that is raised: the failure is shrunk, reproduced and described.

With tasks and threads, two runs of a schedule must be the same to the byte; if they differ, ``Nondeterministic`` names
the first event that does. Processes are scheduled by the operating system: a failure that was seen once is real, and is
reported with the number of runs that reproduced it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import zip_longest
from time import monotonic
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.judge.violations import Nondeterministic, Violation
from pytest_claude_tokens.judge.wording import count
from pytest_claude_tokens.report.accessed import accesses_before, acts_before, merged
from pytest_claude_tokens.report.body_error import unshown
from pytest_claude_tokens.report.evidence import Evidence, notes_of, set_notes
from pytest_claude_tokens.report.raced_lines import raced_lines, told_interpreter_lock
from pytest_claude_tokens.search.delays import told_delays
from pytest_claude_tokens.search.shrink import shrink
from pytest_claude_tokens.simulation.frames import of_the_user
from pytest_claude_tokens.simulation.witness import witnessed

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History
    from pytest_claude_tokens.runs.outcome import Outcome
    from pytest_claude_tokens.search.tally import Failure
    from pytest_claude_tokens.simulation.schedule import Schedule

    Run = Callable[[Schedule], Failure]

__all__ = ["Counterexample", "compare", "confirm", "evidence", "shown"]

_OURS = re.compile(r"w\d+ raised |also [a-z-]+: ")
"""Notes of ours: what another worker raised, and what else was found."""
_REPEATS = 3
"""Further runs of the shortest failing schedule; all must be the same."""
_PROCESS_REPEATS = 5
"""The same with processes; these runs may differ."""
_PROCESS_SHRINK_RUNS = 12
"""Runs that shrinking a failure with processes may take."""
_PROCESS_TIMEOUT_SECONDS = 10.0
"""Real seconds that shrinking with processes may take, and again as many for repeating."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterexample:
    """A failure that a search has found, shrunk and reproduced.

    ``best``: its shortest run. ``example``: the number of the schedule that failed first, whose run had
    ``deviations_before`` deviations from default order. ``replayed``: how many of how many runs reproduced it.
    ``token``, ``replay``: the replay token, and the shell command that uses it.
    """

    best: Failure
    example: int
    deviations_before: int
    replayed: tuple[int, int]
    token: str = ""
    replay: str = ""
    trouble: str = ""

    @property
    def schedule(self) -> Schedule:
        """The shortest schedule that fails."""
        return self.best.outcome.schedule

    @property
    def history(self) -> History:
        """That schedule's history."""
        return self.best.outcome.history

    def remarks(self) -> list[str]:
        """How it was found and how reliably it reproduces, in a line or two."""
        left = len(self.schedule.deviations)
        shrunk = ""
        again, times = self.replayed
        if times and self.schedule.kind == "deviations" and left < self.deviations_before:
            shrunk = f"; shrunk from {count(self.deviations_before, 'deviation')} to {left}"
        sure = f"; replayed {again}/{times}" if times else ""
        number = f"schedule {self.example}" if self.example else "replay"
        drawn = [f"with {', '.join(f'{name}={text}' for name, text in sorted(self.best.arguments.items()))}"]
        return [
            f"{number}{shrunk}{sure}",
            f"order: {self.schedule.text(self.best.outcome.words)}",
            *filter(None, [told_interpreter_lock(self.best.outcome.steps)]),
            *told_delays(self.best.outcome.held),
            *(drawn if self.best.arguments else []),
            *([self.trouble] if self.trouble else []),
        ]


def confirm(first: Failure, run: Run, *, shrinking: bool, exactly: bool) -> tuple[Failure, tuple[int, int]]:
    """The shortest failing run of the same kind, and how many of how many runs reproduced it.

    Raises ``Nondeterministic`` where two runs differ although they must be the same (``exactly``).
    """
    if first.outcome.stuck:  # what was found in it is told as it is
        return first, (0, 0)
    return (
        _repeated_exactly(first, run, shrinking=shrinking)
        if exactly
        else _repeated_roughly(first, run, shrinking=shrinking)
    )


def _repeated_exactly(first: Failure, run: Run, *, shrinking: bool) -> tuple[Failure, tuple[int, int]]:
    best = first.outcome
    if shrinking:
        best, _ = shrink(best, lambda schedule: run(schedule).outcome)
    again = [run(best.schedule) for _ in range(_REPEATS)]
    for one in again:
        compare(best, one.outcome)
    return replace(first, outcome=_watched(best, run)), (_REPEATS, _REPEATS)


def _watched(best: Outcome, run: Run) -> Outcome:
    """``best`` with what a witness has seen in one more run of it: lines of the user's code, and locks."""
    with witnessed() as witness:
        seen = run(best.schedule).outcome
    told, wanted = _comparable(seen, best)
    if told != wanted:  # the witness has disturbed it
        return best
    words = witness.moments.words(best.schedule)
    guilty = [op.opened for op in getattr(best.error, "operations", ())]
    between = merged(
        accesses_before(seen.steps, witness.steps_before), acts_before(witness.locks, witness.acts_before, guilty)
    )
    further: dict[int, dict[str, Any]] = {seq: {"accesses": rows} for seq, rows in between.items()}
    for seq, written in witness.written.items():
        further[seq] = {**further.get(seq, {}), **written}
    return replace(best, history=best.history.with_facts(witness.facts(), further), words=words)


def _repeated_roughly(first: Failure, run: Run, *, shrinking: bool) -> tuple[Failure, tuple[int, int]]:
    """Shrink and repeat a failure with processes: runs may differ, and time is limited."""
    passed = replace(first.outcome, error=None)
    until = monotonic() + _PROCESS_TIMEOUT_SECONDS

    def in_time(schedule: Schedule) -> Outcome:
        return run(schedule).outcome if monotonic() < until else passed

    best = shrink(first.outcome, in_time, _PROCESS_SHRINK_RUNS)[0] if shrinking else first.outcome
    until = monotonic() + _PROCESS_TIMEOUT_SECONDS
    tried = agreed = 0
    while tried < _PROCESS_REPEATS and (not tried or monotonic() < until):
        tried += 1
        agreed += type(run(best.schedule).outcome.error) is type(best.error)
    return replace(first, outcome=best), (agreed, tried)


def shown(found: Counterexample, noted: BaseException | None, *, full: bool = False) -> BaseException:
    """The error of the shortest run, to be raised. ``noted`` carries Hypothesis's notes; ``full``: with all frames."""
    outcome = found.best.outcome
    error = outcome.error
    assert error is not None
    # Keep only the blob of Hypothesis's notes: the story shows the schedule better, and the arguments are added here.
    blobs = [note for note in notes_of(noted) if "reproduce_failure" in note]
    others = [note for note in notes_of(error) if _OURS.match(note)]
    race = raced_lines(outcome.steps)
    if isinstance(error, Violation):
        error.cause = "; ".join(filter(None, [race, error.cause]))
    elif race:
        others.append(race)
    drawn = ", ".join(f"{name}={text}" for name, text in sorted(found.best.arguments.items()))
    set_notes(error, [*others, *([f"with {drawn}"] if drawn else []), *blobs])
    error.__dict__["claude_tokens_found"] = found
    if isinstance(error, Violation):  # its story says more than a traceback
        if error.__cause__ is not None and not full:  # the refused client's inner frames say nothing
            error.__cause__ = error.__cause__.with_traceback(None)
        return error.with_traceback(None)
    return error.with_traceback(of_the_user(error.__traceback__, libraries=full))


def evidence(found: Counterexample) -> Evidence:
    """The evidence for the report of ``found``. To be asked for before :func:`shown`, which takes frames away."""
    error = found.best.outcome.error
    assert error is not None
    return Evidence(
        history=found.history,
        replay=found.replay,
        remarks=found.remarks(),
        error=unshown(error),
        why=raced_lines(found.best.outcome.steps),
    )


def compare(first: Outcome, second: Outcome) -> None:
    """Raise ``Nondeterministic`` where two runs of one schedule differ; it names the first event that does."""
    __tracebackhide__ = True
    one, two = _comparable(first, second)
    for number, (a, b) in enumerate(zip_longest(one, two), start=1):
        if a != b:
            said, other = (_summary(list(outcome.history)[number - 1 : number]) for outcome in (first, second))
            raise Nondeterministic(f"two runs of one schedule differ at event #{number}: {said} | {other}")
    if type(first.error) is not type(second.error):
        said, other = (type(outcome.error).__name__ if outcome.error else "passed" for outcome in (first, second))
        raise Nondeterministic(f"two runs of one schedule have the same history, and differ: {said} | {other}")


def _comparable(first: Outcome, second: Outcome) -> tuple[list[str], list[str]]:
    """The lines of two runs of one schedule that must be the same."""
    times = not (first.in_real_time or second.in_real_time)
    return first.lines(times=times), second.lines(times=times)


def _summary(events: list[Event]) -> str:
    if not events:
        return "nothing more"
    event = events[0]
    words = [event.actor, event.f, event.type, event.refresh or event.bearer or "", f"at {event.t:g} s"]
    return " ".join(word for word in words if word)
