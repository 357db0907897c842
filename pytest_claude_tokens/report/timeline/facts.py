"""A history as the value that the page draws: lanes, events, requests, violations. Plain lists, as JSON has them."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.judge.wording import clip
from pytest_claude_tokens.report.table import describe, request, told_accesses
from pytest_claude_tokens.report.timeline.leases import holds
from pytest_claude_tokens.report.timeline.states import States, lane_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation
    from pytest_claude_tokens.judge.violations import Violation

__all__ = ["facts", "shown_events"]

_FORGOTTEN = 20
"""Tokens that came and went in a gap, of which the event after it still tells."""
_LISTED = 500
"""Violations that one can jump to."""
_LONGEST = 400
"""Characters of what threads did to what they share before one event."""
_KINDS = ("worker", "service", "store", "lease")
"""The order of the lanes."""


def facts(
    history: History,
    violations: Sequence[Violation],
    *,
    most: int,
    around: int | None = None,
) -> dict[str, Any]:
    """The value for the page: at most ``most`` events, those near the event ``around``, and all that are at fault.

    ``around`` is a ``seq``; ``None``: the first violation's. An event's place is its index among the shown ones; what
    is left out lies half-way between.
    """
    events = history.events
    chosen = shown_events([event.seq for event in events], violations[:_LISTED], most, around)
    shown = [events[index] for index in chosen]
    places = _Places(shown)
    operations = [op for op in history.operations if places.touches(op)]
    leases = holds(history.operations, places.of, len(chosen))
    lanes = _lanes([*shown, *(op.invoke for op in operations)], [hold[0] for hold in leases])
    numbers = {lane: number for number, (lane, _) in enumerate(lanes)}
    index_of: dict[int | None, int] = {op.op: index for index, op in enumerate(operations)}
    queued = {note.op: places.of(note.seq) for note in history.noted("queue")}
    return {
        "total": len(events),
        "requests": len(history.operations),
        "gaps": [[place, after - before - 1] for place, (before, after) in _gaps(chosen, len(events))],
        "lanes": [list(lane) for lane in lanes],
        "events": [
            [event.seq, event.t, numbers[lane_of(event)[0]], _mark(event), text, index_of.get(event.op, -1), changes]
            for event, text, changes in _told(history, chosen)
        ],
        "ops": [
            [
                numbers[lane_of(op.invoke)[0]],
                places.of(op.opened),
                len(chosen) if op.closed is None else places.of(op.closed),
                op.outcome,
                request(history, op.invoke),
                queued.get(op.op, -1),
                str(op.invoke.get("at") or ""),
                op.opened,
            ]
            for op in operations
        ],
        "holds": [[numbers[f"lease {lock}"], *rest] for lock, *rest in leases],
        "violations": [
            {
                "invariant": violation.invariant,
                "headline": str(violation),
                "cause": violation.cause,
                "ops": [index_of[op.op] for op in violation.operations if op.op in index_of],
                "at": int(places.of(violation.seq)) if chosen else 0,
            }
            for violation in violations[:_LISTED]
        ],
        "start": None if around is None else max(0, min(len(chosen) - 1, int(places.of(around)))),
        "unlisted": max(0, len(violations) - _LISTED),
    }


# Which events.


def shown_events(
    numbers: Sequence[int], violations: Iterable[Violation], most: int, around: int | None = None
) -> list[int]:
    """The indices of the events to show, in order: all, or those around one of them and the first of the guilty."""
    if len(numbers) <= most:
        return list(range(len(numbers)))
    guilty = [seq for violation in violations for seq in _at_fault(violation)]
    middle = (guilty[0] if guilty else 0) if around is None else around
    apart = {index for seq in guilty[: most // 2] for index in [bisect_left(numbers, seq)] if index < len(numbers)}
    room = most - len(apart)
    first = max(0, min(bisect_left(numbers, middle) - room // 2, len(numbers) - room))
    return sorted({*range(first, first + room), *apart})


def _at_fault(violation: Violation) -> list[int]:
    """The numbers of a violation's events: the one that completed it, and the ends of its requests."""
    return [
        violation.seq,
        *(op.opened for op in violation.operations),
        *(op.closed for op in violation.operations if op.closed),
    ]


def _gaps(chosen: Sequence[int], total: int) -> Iterable[tuple[int, tuple[int, int]]]:
    return ((place, pair) for place, pair in enumerate(pairwise([-1, *chosen, total])) if pair[1] - pair[0] > 1)


class _Places:
    """Where events are drawn, by their ``seq``."""

    def __init__(self, shown: Sequence[Event]) -> None:
        self._numbers = [event.seq for event in shown]

    def of(self, seq: int) -> float:
        """The index of the event; of one that is left out, half-way before the next that is shown."""
        place = bisect_left(self._numbers, seq)
        return place if place < len(self._numbers) and self._numbers[place] == seq else place - 0.5

    def touches(self, op: Operation) -> bool:
        """Whether the request is under way at a place that is shown."""
        last = len(self._numbers) if op.closed is None else self.of(op.closed)
        first = self.of(op.opened)
        return first < len(self._numbers) and last >= 0 and (last > first or first == int(first))


# What is told of them.


def _lanes(events: Iterable[Event], leases: Iterable[str]) -> list[tuple[str, str]]:
    found = dict.fromkeys([*map(lane_of, events), *((f"lease {name}", "lease") for name in leases)])
    return sorted(found, key=lambda lane: _KINDS.index(lane[1]))  # stable: within a kind, by the first event


def _told(history: History, chosen: Sequence[int]) -> Iterable[tuple[Event, str, list[list[Any]]]]:
    """Each shown event, its text, and what it changes.

    What left-out events change, the next shown one changes: the states beside the picture are right all the same.
    """
    states, wanted = States(history), set(chosen)
    changes: dict[str, list[Any]] = {}
    known: set[str] = set()
    for index, event in enumerate(history.events):
        for name, change in states.observe(event).items():
            before = changes.get(name, [None, None, None])
            changes[name] = [old if new is None else new for old, new in zip(before, change, strict=True)]
        if index in wanted:
            gone = [name for name in changes if name not in known and states.is_dead(name)]
            forgotten = set(gone[:-_FORGOTTEN])  # they came and went where nobody looks
            known.update(changes)
            yield (
                event,
                _text(history, event),
                [[name, *change] for name, change in changes.items() if name not in forgotten],
            )
            changes = {}


def _text(history: History, event: Event) -> str:
    try:
        before = "; ".join(" ".join(filter(None, access)) for access in told_accesses(event))
        return describe(history, event) + (f" (before: {clip(before, _LONGEST)})" if before else "")
    except Exception:  # noqa: BLE001 - a file that we did not write may hold anything; the picture stands
        return f"{event.type} {event.f}"


def _mark(event: Event) -> str:
    """The kind of the event, for how it is drawn."""
    if event.type != "note":
        return event.type
    if event.get("revoked") or event.f in ("revoke", "expire"):
        return "revocation"
    if event.f == "commit" and event.get("outcome") == "rotated":
        return "rotation"
    return "kill" if event.f in ("kill", "cancel", "deadlock", "stuck", "starved") else "note"
