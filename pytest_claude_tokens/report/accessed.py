"""What threads did to what they share, between the events of a failing run: the rows of the table that no request has.

Only accesses that conflict are told, and of these the ones nearest to where a thread lost its turn.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fake_server.secrecy import redact
from pytest_claude_tokens.report.raced_lines import Touch, name_of, who
from pytest_claude_tokens.simulation.conflicts import conflicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_claude_tokens.simulation.watch import Step

__all__ = ["accesses_before"]

_MOST = 16
"""Accesses that are told of one run; further ones are counted."""


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


def accesses_before(steps: Sequence[Step], steps_before: Mapping[int, int]) -> dict[int, list[dict[str, str]]]:
    """For each event, by its ``seq``: the accesses after the event before it, where a thread was preempted in the run.

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


def _nearest(rows: Sequence[_Row]) -> list[_Row | tuple[int, int]]:
    """The rows nearest to where a thread lost its turn; for others, the event before which they were, and how many."""
    turns = [index for index, row in enumerate(rows) if not row.name]
    near = sorted(range(len(rows)), key=lambda index: min(abs(index - turn) for turn in turns))
    shown = set(near[:_MOST])
    told: list[_Row | tuple[int, int]] = []
    for index, row in enumerate(rows):
        last = told[-1] if told else None
        if index in shown:
            told.append(row)
        elif isinstance(last, tuple):
            told[-1] = (last[0], last[1] + 1)
        else:
            told.append((row.event, 1))
    return told


def _by_event(told: Iterable[_Row | tuple[int, int]]) -> dict[int, list[dict[str, str]]]:
    found: dict[int, list[dict[str, str]]] = {}
    for one in told:
        if isinstance(one, _Row):
            found.setdefault(one.event, []).append(one.told())
        else:
            found.setdefault(one[0], []).append(
                {"actor": "", "what": f"... {one[1]} more access{'es' * (one[1] > 1)}", "at": ""}
            )
    return found
