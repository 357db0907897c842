"""A history as a table for people: one row for each event, one column for each actor, `*` on the operations at fault.

Plain ASCII, at most :data:`~pytest_claude_tokens.report.wording.WIDTH` columns, labels only. Omitted rows are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from fake_server.core.journal import SERVICE
from pytest_claude_tokens.judge.wording import count
from pytest_claude_tokens.report.wording import WIDTH, one_line

if TYPE_CHECKING:
    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation

__all__ = [
    "aside",
    "bars",
    "describe",
    "outcome",
    "request",
    "store_content",
    "summed_up",
    "table",
    "told_accesses",
    "who_accessed",
]

_ROWS = 60
"""Rows of a table; further ones are only counted. The history file has them all."""
_ACTORS = 5
"""Actors with a column of their own; further ones share one. With names as short as w0, a few more fit."""
_FIRST_ACTOR_COLUMN = 20
"""Characters before the first actor's column: star, number, time."""
_ACTOR_COLUMNS = 26
"""Characters between two actors' columns, if there is room."""
_LAST_ACTOR_COLUMNS = 34
"""Least width of the last actor's text, in characters."""
_OTHERS = "others"
_WORKER = re.compile(r"w[0-9]+")


# One event, in a few words.


def request(history: History, event: Event) -> str:
    """What an operation asks for."""
    if event.f == "token":
        return (
            f"refresh {history.label(event.grant, event.refresh)}"
            if event.refresh
            else str(event.get("grant_type", "token"))
        )
    if event.f == "call":
        return f"call {history.label(event.grant, event.bearer)}" if event.bearer else "call without a bearer"
    return f"{event.get('method', '?')} {event.get('path', '?')}"


def outcome(history: History, event: Event) -> str:
    """How an operation ended."""
    if event.type == "info":
        effect = "committed" if event.get("committed") else "not committed"
        return f"? {event.error or 'reply lost'} ({effect})"
    words = [str(event.status), _issued(history, event) if event.type == "ok" else _refusal(event)]
    if event.get("fault"):
        words.append(f"(injected {event.get('fault')})")
    return " ".join(word for word in words if word)


def _refusal(event: Event) -> str:
    if event.error is None and event.f == "token" and event.get("committed") and event.status in (400, 401):
        return "invalid_grant"  # a history of an older version does not have the code
    return str(event.get("reason") or event.error or "")


def _issued(history: History, event: Event) -> str:
    labels = (event.issued or {}).get("access"), (event.issued or {}).get("refresh")
    return " ".join(history.label(event.grant, label) for label in labels if label)


def describe(history: History, event: Event) -> str:
    """An event in a few words: those of its row in the table."""
    if event.type == "invoke":
        return " ".join((request(history, event), "...", *filter(None, [str(event.get("at") or "")])))
    if event.type != "note":
        return f"... {outcome(history, event)}"
    tell = _NOTES.get(event.f)
    if tell is not None:
        return tell(history, event)
    facts = " ".join(f"{name}={value}" for name, value in event.data.items() if isinstance(value, str | int | float))
    return f"{event.f} {facts}"


def _login(history: History, event: Event) -> str:
    return f"issued {event.grant}: {_issued(history, event)}"


def _commit(history: History, event: Event) -> str:
    token, pair = history.label(event.grant, event.refresh), _issued(history, event)
    text = {
        "rotated": f"{token} spent; {pair}",
        "kept": f"{token} kept; {pair}",
        "replayed": f"{token} again, tolerated; {pair}",
        "reused": f"{token} again: reuse",
        "retry": f"{token} again, at once: retry",
    }.get(event.get("outcome", ""), f"{token} {event.get('outcome')}")
    if event.get("superseded"):
        text += f"; {' '.join(history.label(event.grant, label) for label in event.get('superseded'))} ended"
    return f"{text}; {event.grant} revoked" if event.get("revoked") else text


def store_content(history: History, event: Event) -> str:
    """What a store holds, when it was looked at."""
    if event.get("state") == "blank":
        return f"store {event.get('store')}: no refresh token"
    if event.get("state") != "token":
        return f"store {event.get('store')}: {event.get('state')}"
    dead = "" if event.get("accepted") else " (dead)"
    return f"store {event.get('store')}: {history.label(event.grant, event.refresh)}{dead}"


def _store(history: History, event: Event) -> str:
    return store_content(history, event) + (f", by {event.get('by')}" if event.get("by") else "")


def _ended(history: History, event: Event) -> str:
    ended = " ".join(history.label(event.grant, label) for label in event.get("ended") or ())
    return f"{event.f} {event.account}: {ended or 'nothing left to end'}"


def _leak(history: History, event: Event) -> str:
    return f"{history.label(event.grant, event.get('token'))} in {event.get('where')} {event.get('what')}"


_NOTES: dict[str, Callable[[History, Event], str]] = {
    "login": _login,
    "commit": _commit,
    "store": _store,
    "expire": _ended,
    "revoke": _ended,
    "leak": _leak,
    "refused": lambda history, event: f"refused: {event.get('host') or event.get('what')}",
    "advance": lambda history, event: f"clock {event.get('seconds', 0):+g} s",
    "queue": lambda history, event: f"queued {event.get('waited', 0):.3g} s{', overdue' * bool(event.get('overdue'))}",
    "deadlock": lambda history, event: "deadlock: " + "; ".join(event.get("waits") or ()),
    "stuck": lambda history, event: f"stuck: {event.get('why')}",
    "end": lambda history, event: "end of what was kept" if event.get("so_far") else "end of the run",
}


# The table.


def table(
    history: History,
    marked: Collection[int],
    important: Collection[int] = (),
    *,
    kept: bool = True,
    rows: int = _ROWS,
) -> list[str]:
    """The events as rows. ``marked``: the numbers of events with a `*`; ``important``: others that are always shown.

    ``kept``: there is a file with all of them, which can be referred to. ``rows``: how many are shown. What threads did
    to what they share stands where it happened, and has half of them at most.
    """
    needed = {*marked, *important}
    side, same = aside(history, needed), _unchanged(history, needed)
    events = [event for event in history if event.op not in side and event.seq not in same]
    accesses = _accesses(events, rows // 2)
    room = rows - sum(map(len, accesses.values()))
    shown = _choose([event.seq for event in events], needed, room)
    grid = _Grid(_columns(events, shown, accesses, marked))
    lines = [grid.head()]
    left_out = 0
    for event in events:
        if event.seq in shown or event.seq in accesses:
            lines += _gap(left_out, kept=kept)
            left_out = 0
        lines += [grid.row("", actor, text) for actor, text in accesses.get(event.seq, ())]
        if event.seq in shown:
            star = "*" if event.seq in marked else " "
            lines.append(grid.row(f"  {star} {event.seq:<4}{event.t:>+10.3f}", event.actor, describe(history, event)))
        else:
            left_out += 1
    return [*lines, *_gap(left_out, kept=kept), *_sum_up(side.values()), *_quiet(history.quiet.requests)]


class _Grid:
    """Where each actor's text stands in a line."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        room = WIDTH - _FIRST_ACTOR_COLUMN - _LAST_ACTOR_COLUMNS
        self._step = min(_ACTOR_COLUMNS, room // max(1, len(columns) - 1))

    def head(self) -> str:
        """The names of the columns."""
        *others, last = self._columns
        heads = "".join(one_line(name, self._step - 1).ljust(self._step) for name in others)
        return "    #       time".ljust(_FIRST_ACTOR_COLUMN) + heads + last

    def row(self, front: str, actor: str, text: str) -> str:
        """A line that begins with ``front``; who has no column is named in that of the others, else in the first."""
        if actor not in self._columns:
            text = f"{actor}: {text}" if actor else text
            actor = _OTHERS if _OTHERS in self._columns else self._columns[0]
        return one_line(front.ljust(_FIRST_ACTOR_COLUMN) + " " * (self._step * self._columns.index(actor)) + text)


def _accesses(events: Iterable[Event], most: int) -> dict[int, list[tuple[str, str]]]:
    """What threads did right before each event, as actor and text; of more than ``most`` the last ones."""
    found = {event.seq: [*told_accesses(event)] for event in events if event.get("accesses")}
    over = sum(map(len, found.values())) - most
    for seq, told in found.items():
        found[seq] = told[max(0, over) :]
        over -= len(told)
    return {seq: told for seq, told in found.items() if told}


def who_accessed(events: Iterable[Event]) -> set[str]:
    """The workers of whose accesses something is told, whether or not they have sent a request."""
    told = (access for event in events for access in told_accesses(event))
    return {actor for actor, _ in told if _WORKER.fullmatch(actor)}


def told_accesses(event: Event) -> Iterator[tuple[str, str]]:
    """What threads did right before an event, as actor and text; a file that we did not write may hold anything."""
    accesses = event.get("accesses")
    for access in accesses if isinstance(accesses, list) else ():
        if isinstance(access, Mapping):
            words = (str(access.get(key) or "") for key in ("actor", "what", "at"))
            actor, *rest = words
            yield actor, " ".join(filter(None, rest))


def _unchanged(history: History, needed: AbstractSet[int]) -> set[int]:
    """The looks at a store that have found what is told already, as that at the end of a run mostly does."""
    told: dict[object, str] = {}
    found = set()
    for event in history.noted("store"):
        content = store_content(history, event)
        if told.get(event.get("store")) == content and not event.get("by") and event.seq not in needed:
            found.add(event.seq)
        told[event.get("store")] = content
    return found


def aside(history: History, needed: AbstractSet[int]) -> dict[int, Operation]:
    """The requests that touch no token: of other kinds, not refused, and with nothing noted of them.

    A client sends dozens at its start. A single one is shown as any other.
    """
    noted = {event.op for event in history if event.type == "note"}
    found = {
        op.op: op
        for op in history.operations
        if op.f == "other"
        and op.op not in noted
        and op.refresh is None
        and op.status not in (401, 403)
        and needed.isdisjoint((op.opened, op.closed))
    }
    return found if len(found) > 1 else {}


def _sum_up(operations: Collection[Operation]) -> list[str]:
    """One line for all requests that touch no token."""
    return [one_line(f"    and {summed_up(operations)}")] if operations else []


def summed_up(operations: Collection[Operation]) -> str:
    """Requests that touch no token, in some words: how many, and which."""
    counts = Counter(f"{op.invoke.get('method', '?')} {op.invoke.get('path', '?')}" for op in operations)
    listed = ", ".join(what if n == 1 else f"{what} ({n} times)" for what, n in counts.most_common())
    return f"{count(len(operations), 'request')} that touch no token: {listed}"


def _quiet(requests: int) -> list[str]:
    """One line for the calls that were not even read."""
    return [f"    and {count(requests, 'call')} of which there is nothing to tell"] if requests else []


def _gap(left_out: int, *, kept: bool) -> list[str]:
    where = ", see the history's file" if kept else ""
    return [f"    ... {left_out} more events{where}"] if left_out else []


def _columns(
    events: Iterable[Event],
    shown: Collection[int],
    accesses: Mapping[int, Sequence[tuple[str, str]]],
    marked: Collection[int],
) -> list[str]:
    """The actors in order of their first row, the service last. If there are too many, those without marked events
    share the column of the others.
    """
    found: list[str] = []
    guilty: set[str] = set()
    for event in events:
        found += [actor for actor, _ in accesses.get(event.seq, ()) if _WORKER.fullmatch(actor)]
        if event.seq in shown and event.actor != SERVICE:
            found.append(event.actor)
        if event.seq in marked:
            guilty.add(event.actor)
    actors = list(dict.fromkeys(found))
    room = _ACTORS if max(map(len, actors), default=0) > len("w99") else _ACTORS + 3
    if len(actors) > room:
        kept = [actor for actor in actors if actor in guilty] or actors
        actors = [*kept[: room - 1], _OTHERS]
    return [*actors, SERVICE]


def _choose(numbers: Sequence[int], important: Collection[int], rows: int) -> set[int]:
    """The rows to show, as many as there is room for: the first two, the important ones, and their neighbours."""
    if len(numbers) <= rows:
        return set(numbers)
    chosen = set(numbers[:2]) | set(sorted(important)[:rows])
    rest = (seq for seq in numbers if seq not in chosen)
    near = sorted(rest, key=lambda seq: min((abs(seq - mark) for mark in important), default=seq))
    return chosen | set(near[: max(0, rows - len(chosen))])


# Operations as bars, for violations where intervals matter.

_BAR_COLUMNS = 60


def bars(history: History, operations: Sequence[Operation]) -> list[str]:
    """One line per operation. A bar's length follows the order of events, not time; the wait in the queue is dotted."""
    queued = {event.op: event.seq for event in history.noted("queue")}
    ends = [op.closed or history.events[-1].seq + 1 for op in operations]
    points = sorted({*(op.opened for op in operations), *ends, *(queued[o.op] for o in operations if o.op in queued)})
    place = {seq: index * _BAR_COLUMNS // (len(points) - 1) for index, seq in enumerate(points)}
    indent = max(len(op.actor) for op in operations)
    lines = []
    for op, end in zip(operations, ends, strict=True):
        bar, room = "", place[end] - place[op.opened]
        if op.op in queued:
            waited = place[queued[op.op]] - place[op.opened]
            bar = " queued ".center(waited, ".")[:waited] + "|"
        bar += f" {history.label(op.grant, op.bearer)} ".center(room - len(bar), "=")
        close = "]" if op.outcome in ("ok", "fail") else "~~ ?"  # an unknown outcome has no known end
        lines.append(one_line(f"    {op.actor:<{indent}}  {' ' * place[op.opened]}#{op.opened} [{bar}{close}"))
    return lines
