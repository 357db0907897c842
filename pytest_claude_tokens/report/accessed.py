"""What workers did between the events of a failing run: the rows of the table that no request has.

Of threads, what they did to what they share: only accesses that conflict, and of these the ones nearest to where a
thread lost its turn. Of all workers, which locks they took and let go, nearest to the requests at fault.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from fake_server.secrecy import redact
from pytest_claude_tokens.report.raced_lines import Touch, name_of, who
from pytest_claude_tokens.simulation.conflicts import conflicts
from pytest_claude_tokens.simulation.lines import text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pytest_claude_tokens.simulation.held_locks import HeldLocks
    from pytest_claude_tokens.simulation.watch import Step

__all__ = ["Between", "accesses_before", "acts_before", "merged"]

Between = dict[int, list[tuple[int, dict[str, str]]]]
"""For each event, by its ``seq``, the rows before it: the step that it came after, and what it says."""

_MOST = 16
"""Accesses that are told of one run; further ones are counted."""
_MOST_ACTS = 12
"""Likewise of what was done to locks."""


@dataclass(slots=True)
class _Row:
    """What one thread did at one line to one thing: ``verbs``, in order. ``number``: of its first step."""

    number: int
    event: int
    step: Step
    name: str
    verbs: list[str]

    def told(self) -> dict[str, str]:
        """The row as it stands in the history."""
        what = f"{' and '.join(self.verbs)} {self.name}" if self.name else "lost its turn before"
        return {"actor": who(self.step), "what": redact(what), "at": redact(self.step.access.line)}


def merged(*parts: Between) -> dict[int, list[dict[str, str]]]:
    """The rows of all parts before each event, in the order in which the run did it."""
    events = sorted(set().union(*parts))
    together = {seq: [row for part in parts for row in part.get(seq, ())] for seq in events}
    return {seq: [told for _, told in sorted(rows, key=itemgetter(0))] for seq, rows in together.items()}


def acts_before(locks: HeldLocks, before: Mapping[int, int], guilty: Collection[int]) -> Between:
    """What workers did to locks, for each event: before it, and after the event before that.

    ``before``: how many of the acts came before each event. ``guilty``: the numbers of the events at fault; without
    any, what came last matters most.
    """
    events = sorted(before)
    counts = [before[event] for event in events]
    acts = [(number, act) for number, act in enumerate(locks.acts) if locks.is_lock(act.key)]
    centres = [before[event] for event in guilty if event in before] or [len(locks.acts)]
    near = sorted(acts, key=lambda one: min(abs(one[0] + 0.5 - centre) for centre in centres))[:_MOST_ACTS]
    found: Between = {}
    for number, act in sorted(near, key=itemgetter(0)):
        at = text(act.line) if act.line is not None and act.line[1] else ""
        told = {"actor": act.worker, "what": f"{act.did} {locks.name(act.key)}", "at": at}
        event = bisect_right(counts, number)
        if event < len(events):
            found.setdefault(events[event], []).append((act.after, told))
    return found


def accesses_before(steps: Sequence[Step], steps_before: Mapping[int, int]) -> Between:
    """The accesses for each event, before it and after the event before that, where a thread was preempted in the run.

    ``steps_before``: how many of the steps came before each event.
    """
    preempted = [number for number, step in enumerate(steps) if not step.touched]
    if not preempted or not steps_before:
        return {}
    events = sorted(steps_before)
    counts = [steps_before[event] for event in events]
    touches = [(number, Touch(steps[number], touched)) for number, touched in conflicts(steps)]
    names = _names([touch for _, touch in touches])
    rows: list[_Row] = []
    for number, touch in sorted([*touches, *((at, None) for at in preempted)], key=lambda one: one[0]):
        event = events[min(bisect_right(counts, number), len(events) - 1)]
        name, verb = ("", "") if touch is None else (names[touch.thing], touch.verb)
        last = rows[-1] if rows else None
        same = last is not None and (last.event, last.step.thread, last.name) == (event, steps[number].thread, name)
        if last is not None and same and last.step.access.line == steps[number].access.line:
            last.verbs += [verb] if verb not in last.verbs else []
        else:
            rows.append(_Row(number, event, steps[number], name, [verb]))
    return _by_event(_nearest(rows))


def _names(touches: Iterable[Touch]) -> dict[tuple[object, str], str]:
    """A name for each thing, the same in all rows: ``Pool.busy`` rather than ``a set``, which one line knows it by."""
    found: dict[tuple[object, str], str] = {}
    for touch in touches:
        name, known = name_of(touch), found.get(touch.thing)
        if known is None or ("." in name and not name.startswith("self.") and "." not in known.removeprefix("self.")):
            found[touch.thing] = name
    return found


def _nearest(rows: Sequence[_Row]) -> list[_Row | tuple[int, int, int]]:
    """The rows nearest to where a thread lost its turn; for others, the event and step of the first, and how many."""
    turns = [index for index, row in enumerate(rows) if not row.name]
    near = sorted(range(len(rows)), key=lambda index: min(abs(index - turn) for turn in turns))
    shown = set(near[:_MOST])
    told: list[_Row | tuple[int, int, int]] = []
    for index, row in enumerate(rows):
        last = told[-1] if told else None
        if index in shown:
            told.append(row)
        elif isinstance(last, tuple):
            told[-1] = (*last[:2], last[2] + 1)
        else:
            told.append((row.event, row.number, 1))
    return told


def _by_event(told: Iterable[_Row | tuple[int, int, int]]) -> Between:
    found: Between = {}
    for one in told:
        if isinstance(one, _Row):
            found.setdefault(one.event, []).append((one.number, one.told()))
        else:
            event, number, more = one
            what = f"... {more} more access{'es' * (more > 1)}"
            found.setdefault(event, []).append((number, {"actor": "", "what": what, "at": ""}))
    return found
