"""The story of a violation, for a terminal: the workers' requests, the cause, the consequence, the history as a table.

A pure function of a history and a violation. Plain ASCII, at most 100 columns (except for the replay command), labels
and never a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.earning import refusals, told
from pytest_claude_tokens.judge.wording import count
from pytest_claude_tokens.report.advice import ONE_LOCK, RULES, TO_DO, what_to_mend
from pytest_claude_tokens.report.causes import mistake
from pytest_claude_tokens.report.raced_lines import split_race
from pytest_claude_tokens.report.table import bars, outcome, request, store_content, table, who_accessed
from pytest_claude_tokens.report.wording import WIDTH, one_line, paragraph

if TYPE_CHECKING:
    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation
    from pytest_claude_tokens.judge.violations import Violation

__all__ = ["plain_story", "story"]

_MARGIN = " " * 8
_LINES = 60
"""Lines of a story: as many as a screen holds."""
_FEWEST_ROWS = 12
_LISTED_OTHERS = 10
"""Other violations that are named; further ones are only counted."""


def story(
    history: History,
    violation: Violation,
    *,
    replay: str | None = None,
    error: str = "",
    remarks: Sequence[str] = (),
    workers: int = 0,
    folder: str | None = None,
    files: Sequence[str] = ("history.jsonl",),
    in_test: bool = False,
    kept: bool = True,
) -> str:
    """The text of the section ``claude-tokens history``.

    ``replay``: a shell command that shows the violation again. ``error``: what the body ended with. ``remarks``: how it
    was found. ``folder`` holds ``files``. ``in_test``: add how a test can allow the violation. ``kept``: the history is
    in a file.
    """
    found = mistake(history, violation)
    blocks = [
        [
            *_sides(history, violation),
            *_labelled("why", _why(history, violation, found)),
            *_labelled("after", _after(history, violation)),
            *_labelled("mend", _mend(violation, found)),
            *_labelled("error", f"{error}; all: --tb=long" if error else ""),
            *([f"replay  {replay}"] if replay else []),
        ],
        [*_rule(history, violation, workers), *_remarks([*_refused(history), *remarks])],
        bars(history, violation.operations) if _overlap(violation) else [],
        [],
        _list_others(violation.others),
        _where(violation, folder, files, in_test=in_test),
    ]
    blocks[3] = _fitting(history, *_numbers(violation), room=_LINES - _length(blocks), kept=kept)
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _length(blocks: Sequence[Sequence[str]]) -> int:
    """How many lines these blocks have, and the empty ones between them and one more."""
    return sum(len(block) + 1 for block in blocks if block)


def _fitting(history: History, marked: set[int], important: set[int], *, room: int, kept: bool) -> list[str]:
    """The table, with so many rows as there are lines left for it, and a dozen at least."""
    for rows in range(_LINES, _FEWEST_ROWS, -4):
        lines = table(history, marked, important, kept=kept, rows=rows)
        if len(lines) <= room:
            return lines
    return table(history, marked, important, kept=kept, rows=_FEWEST_ROWS)


def plain_story(
    history: History,
    headline: str,
    *,
    why: str = "",
    replay: str | None = None,
    error: str = "",
    remarks: Sequence[str] = (),
    workers: int = 0,
    folder: str | None = None,
    files: Sequence[str] = (),
    kept: bool = True,
) -> str:
    """The section for a finding that is not a violation, such as the verdict UNKNOWN: its headline, and the history."""
    first = [
        *_labelled("verdict", headline),
        *_labelled("why", why),
        *_labelled("mend", ONE_LOCK if why else ""),
        *_labelled("error", f"{error}; all: --tb=long" if error else ""),
        *([f"replay  {replay}"] if replay else []),
    ]
    refused = [text for text in _refused(history) if text not in headline]
    facts = [*_facts(history, workers), *_remarks([*refused, *remarks])]
    blocks = [first, facts, table(history, (), kept=kept), [_kept(folder, files)] if folder else []]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _labelled(word: str, text: str) -> list[str]:
    """``text`` as a hanging paragraph, with ``word`` in its margin."""
    return paragraph(text, word.ljust(8), _MARGIN) if text else []


# The two sides.


def _sides(history: History, violation: Violation) -> list[str]:
    """The two sides as a race detector shows them: the later request first, then the one that it collides with."""
    operations = _known(history, violation.operations)
    if not operations:
        event = next((event for event in history if event.seq == violation.seq), None)
        return (
            [] if event is None else [one_line(f"at      #{event.seq}  {event.t:+.3f}s  {_happening(history, event)}")]
        )
    *_, again = operations
    later, earlier = ("at", "beside") if violation.invariant == "missing-bearer" else ("again", "first")
    sides = [(later if len(operations) > 1 else "at", again)]
    if len(operations) > 1:
        sides.append((earlier, operations[0]))
    numbers = max(len(str(op.opened)) for _, op in sides)
    actors = max(len(op.actor) for _, op in sides)
    lines: list[str] = []
    ends = [_exchange(history, op) for _, op in sides]
    room = WIDTH - 24 - numbers - actors - max(map(len, ends))
    places = _places([op for _, op in sides], room)
    for (word, op), place in zip(sides, places, strict=True):
        number = f"#{op.opened}".ljust(numbers + 1)
        line = f"{word:<8}{number}  {op.invoke.t:+.3f}s  {op.actor:<{actors}}  {place}{_exchange(history, op)}"
        lines.append(one_line(line))
    between = len(operations) - len(sides)
    return [*lines, f"{_MARGIN}and {between} more between these two"] if between > 0 else lines


def _happening(history: History, event: Event) -> str:
    """What is no request: of a store, who wrote it and what is in it now."""
    if event.f != "store":
        return f"{event.actor}  {event.f}"
    content = store_content(history, event)
    return f"{event.get('by')}  {event.get('at')}  {content}" if event.get("by") else f"{event.actor}  {content}"


def _known(history: History, operations: Sequence[Operation]) -> list[Operation]:
    """These operations as the history has them, with all that is known of them."""
    by_number = {op.op: op for op in history.operations}
    return [by_number.get(op.op, op) for op in operations]


def _places(sides: Sequence[Operation], room: int) -> list[str]:
    """For each side the line of the user's code, in a column.

    Its caller's, too, if the line is in a helper: in another file, or shared by two sides that came from two lines.
    """
    lines = [[str(op.invoke.get("at") or ""), *map(str, op.invoke.get("via") or ())] for op in sides]
    parting = {line[1] for line in lines if len(line) > 1} if len({line[0] for line in lines}) == 1 else ()
    texts = []
    for at, *via in lines:
        apart = via and (len(parting) > 1 or via[0].rpartition(":")[0] != at.rpartition(":")[0])
        texts.append(f"{at} from {via[0]}" if apart else at)
    if max(map(len, texts)) > room:  # how a request ended is worth more
        texts = [at for at, *_ in lines]
    width = max(map(len, texts))
    return [f"{one:<{width}}  " if width else "" for one in texts]


def _exchange(history: History, op: Operation) -> str:
    asked = request(history, op.invoke)
    return f"{asked} -> {outcome(history, op.end)}" if op.end else f"{asked}, still open"


# Why: the cause that the checker names, and further facts from the history.


def _why(history: History, violation: Violation, found: str) -> str:
    """What raced between two lines comes first: without it nothing else would have happened. ``found``: the mistake."""
    race, cause = split_race(violation.cause)
    if violation.invariant == "double-spend" and found:  # it says all of the cause, and of the hint all but the store
        kept = _store_that_had_it(history, violation.operations[0], violation.operations[-1])
        return "; ".join(filter(None, [race, found, kept]))
    if violation.invariant == "co-schedule" and found:  # that the other call was open is said by the sides
        cause = ""
    reasons = [race, found, cause, _hint(history, violation)]
    return "; ".join(reason for reason in reasons if reason) or "cause not recognised"


def _hint(history: History, violation: Violation) -> str:
    if len(violation.operations) < 2:
        return ""
    first, again = violation.operations[0], violation.operations[-1]
    if violation.invariant == "double-spend" and first.closed is not None and first.closed < again.opened:
        return _where_the_new_one_was(history, first, again)
    if violation.invariant == "co-schedule":
        idle = _idle(history, again)
        return f"{', '.join(idle)} {'was' if len(idle) == 1 else 'were'} free" if idle else ""
    return ""


def _store_that_had_it(history: History, first: Operation, again: Operation) -> str:
    fresh = history.label(first.grant, first.issued.get("refresh"))
    for event in history.noted("store"):
        seen = event.grant == first.grant and event.refresh == first.issued.get("refresh")
        if seen and event.seq < again.opened:
            return f"the store {event.get('store')} had held {fresh} since #{event.seq}"
    return ""


def _where_the_new_one_was(history: History, first: Operation, again: Operation) -> str:
    token = history.label(first.grant, first.refresh)
    fresh = history.label(first.grant, first.issued.get("refresh"))
    if kept := _store_that_had_it(history, first, again):
        return kept
    return f"it kept using its copy of {token} after {first.actor} had received {fresh} (#{first.closed})"


def _idle(history: History, again: Operation) -> list[str]:
    """The live bearers without an open call at the time when ``again`` was sent."""
    before = [event for event in history if event.type == "note" and event.seq < again.opened]
    live: dict[tuple[str | None, str], bool] = {}
    for event in before:
        access = (event.issued or {}).get("access")
        if access:
            live[event.grant, access] = event.get("expires") is None or event.get("expires") > again.invoke.t
        for how in ("ended", "revoked", "superseded"):
            live.update({(event.grant, label): False for label in event.get(how) or ()})
    busy = {(op.grant, op.bearer) for op in history.operations if op.f == "call" and op.open_at(again.opened)}
    free = [key for key, lives in live.items() if lives and key not in busy and key != (again.grant, again.bearer)]
    return [history.label(grant, label) for grant, label in free]


# After.


def _after(history: History, violation: Violation) -> str:
    """The consequence for the user."""
    if violation.invariant == "co-schedule":
        return _waits(history, violation.operations) or TO_DO["co-schedule"]
    ids = {op.op for op in violation.operations}
    for event in reversed(history.noted("commit")):
        if event.op in ids and event.get("revoked"):
            dead = " ".join(history.label(event.grant, label) for label in event.get("revoked"))
            gone = "" if event.get("accepts") else ": a person has to log in again"
            return f"the service detected the reuse: {dead} revoked{gone}"
        if event.op in ids and event.get("outcome") == "replayed":
            return "the service tolerated it: no harm was done here"
        if event.op in ids and event.get("outcome") in ("reused", "refused"):
            return _left(history, event)
    return TO_DO.get(violation.invariant, "")


def _mend(violation: Violation, found: str) -> str:
    return ONE_LOCK if split_race(violation.cause)[0] else what_to_mend(violation.invariant, found)


def _left(history: History, commit: Event) -> str:
    """What remains of the grant after a refused request."""
    live = {str(label): history.label(commit.grant, label) for label in commit.get("accepts") or ()}
    if not live:
        return "refused; no refresh token of this grant works any more: a person has to log in again"
    holders = {
        op.issued.get("refresh"): op.actor
        for op in history.operations
        if op.grant == commit.grant and op.outcome == "ok"
    }
    held = [f"{name} still works, for {holders[label]}" for label, name in live.items() if label in holders]
    lost = [
        f"{name} never arrived anywhere: a person has to log in again"
        for label, name in live.items()
        if label not in holders
    ]
    return "refused; " + "; ".join(held or lost)


def _waits(history: History, operations: Iterable[Operation]) -> str:
    waited = {event.op: event.get("waited") for event in history.noted("queue")}
    waits = [f"{op.actor} waited {waited[op.op]:.3g} s (#{op.opened})" for op in operations if op.op in waited]
    return f"in the service's queue {', '.join(waits)}" if waits else ""


# The rest.


def _rule(history: History, violation: Violation, workers: int) -> list[str]:
    rule = RULES[violation.invariant].format(limit=len(violation.operations) - 1)
    return [*paragraph(f"{violation.invariant}: {rule}"), *_facts(history, workers)]


def _facts(history: History, workers: int) -> list[str]:
    """The circumstances. ``workers``: how many a search had, whether or not all have sent something."""
    policy = _settings(history.header.get("policy"), "name")
    clock = _settings(history.header.get("clock"), "kind")
    seen = len({*history.quiet.actors, *(op.actor for op in history.operations), *who_accessed(history)})
    grants = len(history.noted("login"))
    settings = ", ".join(f"{name} {_plain(value)}" for name, value in policy.items() if name != "name")
    return paragraph(
        f"{count(max(seen, workers), 'worker')}, {count(grants, 'grant')}; policy {policy.get('name', '?')}"
        f"{f' ({settings})' if settings else ''}; {clock.get('kind', '?')} clock; {_faults(history)}"
    )


def _plain(value: object) -> str:
    """A setting's value, in words."""
    if isinstance(value, Mapping):
        return " and ".join(f"{name} {one}" for name, one in value.items())
    return str(value)


def _remarks(remarks: Sequence[str]) -> list[str]:
    """The remarks on how it was found, each wrapped."""
    return [line for remark in remarks for line in paragraph(remark, rest="    ")]


def _refused(history: History) -> list[str]:
    """What was refused, as clients often swallow the error."""
    return told(refusals(history.noted("refused")))


def _settings(entry: object, name: str) -> Mapping[str, object]:
    """An entry of the header as a mapping; the header may hold only its name instead."""
    if isinstance(entry, Mapping):
        return entry
    return {name: entry} if isinstance(entry, str) else {}


def _faults(history: History) -> str:
    injected = list(dict.fromkeys(op.fault for op in history.operations if op.fault))
    return f"faults: {', '.join(injected)}" if injected else "no faults"


def _overlap(violation: Violation) -> bool:
    return violation.invariant == "co-schedule" and len(violation.operations) > 1


def _numbers(violation: Violation) -> tuple[set[int], set[int]]:
    """The numbers of the events that the table marks, and of the others that it must not omit."""
    marked = {op.opened for op in violation.operations} or {violation.seq}
    return marked, {violation.seq, *(op.closed for op in violation.operations if op.closed)}


def _list_others(others: Sequence[Violation]) -> list[str]:
    lines = [one_line(f"also    #{other.seq}  {other.invariant}: {other}") for other in others[:_LISTED_OTHERS]]
    further = len(others) - _LISTED_OTHERS
    return [*lines, f"{_MARGIN}and {further} more"] if further > 0 else lines


def _where(violation: Violation, folder: str | None, files: Sequence[str], *, in_test: bool) -> list[str]:
    remedy = f'If this is what you are studying: @pytest.mark.claude_tokens(allow=["{violation.invariant}"])'
    return [*([_kept(folder, files)] if folder else []), *([remedy] if in_test else [])]


def _kept(folder: str, files: Sequence[str]) -> str:
    where, what = f"{folder}/", "  ".join(files)
    line = f"{where}  {what}"
    return one_line(line) if len(line) <= WIDTH else f"{one_line(where)}\n{one_line(f'    {what}')}"
