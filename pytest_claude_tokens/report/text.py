"""The story of a violation, for a terminal: who did what, why, what came of it, and the history as a table.

A pure function of a history and a violation. Plain ASCII, at most 100 columns (but for the command to replay it),
labels and never a secret.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_claude_tokens.report.table import WIDTH, bars, clip, outcome, request, table

if TYPE_CHECKING:
    from fake_server.events import Event
    from pytest_claude_tokens.history import History, Operation
    from pytest_claude_tokens.violations import Violation

__all__ = ["RULES", "story"]

RULES: Mapping[str, str] = {
    "double-spend": "a refresh token is not sent again while its first request is open, or after that one succeeded"
    " (RFC 9700 s4.14.2)",
    "blind-replay": "after a token request whose outcome is unknown, its refresh token is not sent again",
    "co-schedule": "no more workers than the limit have a call open on one bearer",
    "lost-rotation": "at the end, each live grant has in one of its stores a refresh token that the service accepts",
    "forced-login": "no grant ends without a live refresh token that reached a worker and, if it has stores, is in one",
    "stale-bearer": "no worker presents a bearer again after it was told that it is expired or revoked",
    "refresh-storm": "per grant: no more refresh requests than access tokens that ended, plus one",
    "starvation": "every job ends, and nobody waits for ever",
    "store-regression": "a store never goes from a refresh token that the service accepts to one that it doesn't",
    "token-leak": "no live token in arguments, logs, or files that others may read",
}
"""What each invariant asks for, in one sentence."""

_MARGIN = " " * 8
_OTHERS = 10  # other violations that are named; further ones are counted


def story(
    history: History,
    violation: Violation,
    *,
    replay: str | None = None,
    folder: str | None = None,
    files: Sequence[str] = ("history.jsonl",),
    sources: Mapping[int, str] | None = None,
) -> str:
    """The text of the section ``claude-tokens history``.

    ``replay``: a shell command that shows the violation again. ``folder`` holds ``files``. ``sources``: for an
    operation's number, the line of the user's code that sent it (``dispatch.py:88``).
    """
    blocks = [
        [
            *_sides(history, violation, sources or {}),
            *_say("why", violation.cause or _why(history, violation)),
            *_say("after", _after(history, violation)),
            *([f"replay  {replay}"] if replay else []),
        ],
        _rule(history, violation),
        bars(history, violation.operations) if _overlap(violation) else [],
        table(history, *_numbers(violation)),
        _list_others(violation.others),
        _where(violation, folder, files),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _say(word: str, text: str) -> list[str]:
    """``text`` beside its ``word``, as a hanging paragraph."""
    if not text:
        return []
    plain = text.encode("ascii", "backslashreplace").decode()
    return textwrap.wrap(plain, WIDTH, initial_indent=word.ljust(8), subsequent_indent=_MARGIN)


# The two sides.


def _sides(history: History, violation: Violation, sources: Mapping[int, str]) -> list[str]:
    """As a race detector has it: the later access first, then the one that it collides with."""
    operations = violation.operations
    if not operations:
        event = next((event for event in history if event.seq == violation.seq), None)
        return [] if event is None else [clip(f"at      #{event.seq}  {event.t:+.3f}s  {event.actor}  {event.f}")]
    *_, again = operations
    sides = [("again" if len(operations) > 1 else "at", again)]
    if len(operations) > 1:
        sides.append(("first", operations[0]))
    numbers = max(len(str(op.opened)) for _, op in sides)
    actors = max(len(op.actor) for _, op in sides)
    lines = []
    for word, op in sides:
        number = f"#{op.opened}".ljust(numbers + 1)
        source = f"{sources[op.op]}  " if op.op in sources else ""
        line = f"{word:<8}{number}  {op.invoke.t:+.3f}s  {op.actor:<{actors}}  {source}{_told(history, op)}"
        lines.append(clip(line))
    between = len(operations) - len(sides)
    return [*lines, f"{_MARGIN}and {between} more between these two"] if between > 0 else lines


def _told(history: History, op: Operation) -> str:
    asked = request(history, op.invoke)
    return f"{asked} -> {outcome(history, op.end)}" if op.end else f"{asked}, still open"


# Why, as far as the history shows it.


def _why(history: History, violation: Violation) -> str:
    operations = violation.operations
    if violation.invariant == "co-schedule" and len(operations) > 1:
        return _why_together(history, operations[0], operations[-1])
    if violation.invariant == "blind-replay" and len(operations) > 1:
        return _why_blind(history, operations[0], operations[-1])
    if violation.invariant == "double-spend" and len(operations) > 1:
        return _why_twice(history, operations[0], operations[-1])
    if violation.invariant == "stale-bearer" and len(operations) > 1:
        return _why_stale(history, operations[0], operations[-1])
    return "cause not recognised"


def _why_twice(history: History, first: Operation, again: Operation) -> str:
    token = history.label(first.grant, first.refresh)
    if first.closed is None or again.opened < first.closed:
        return f"{again.actor} sent {token} while {_whose(first, again)} request #{first.opened} was open"
    fresh = history.label(first.grant, first.issued.get("refresh"))
    stored = _stored(history, first, again)
    if stored is not None:
        return f"store {stored.get('store')} held {fresh} since #{stored.seq}; {again.actor} had read it before"
    if first.actor == again.actor:
        return f"{again.actor} itself had been given {fresh} (#{first.closed}), and went on with {token}"
    return f"{first.actor} had been given {fresh} (#{first.closed}); {again.actor} went on with its copy of {token}"


def _stored(history: History, first: Operation, again: Operation) -> Event | None:
    """The first sight of the new token in a store before the old one was sent again."""
    fresh = first.issued.get("refresh")
    for event in history.noted("store"):
        if event.grant == first.grant and event.refresh == fresh and fresh and event.seq < again.opened:
            return event
    return None


def _why_blind(history: History, first: Operation, again: Operation) -> str:
    fault = (first.end.error if first.end else None) or "the reply was lost"
    known = "it had been committed" if first.committed else "it had not been committed"
    return f"nobody could tell what had become of #{first.opened} ({fault}; {known}), and {again.actor} sent it again"


def _why_together(history: History, first: Operation, again: Operation) -> str:
    bearer = history.label(again.grant, again.bearer)
    told = f"{again.actor} chose {bearer} while {_whose(first, again)} call #{first.opened} was open"
    idle = _idle(history, again)
    return f"{told}; {', '.join(idle)} {'was' if len(idle) == 1 else 'were'} free" if idle else told


def _why_stale(history: History, first: Operation, again: Operation) -> str:
    bearer = history.label(again.grant, again.bearer)
    told = first.end.get("reason") if first.end else None
    return f"{again.actor} had been told at #{first.closed} that {bearer} is {told or 'no longer good'}"


def _idle(history: History, again: Operation) -> list[str]:
    """The bearers that lived, and that no call was open on, when ``again`` was sent."""
    live: dict[tuple[str | None, str], None] = {}
    for event in history:
        if event.seq >= again.opened:
            break
        if event.type == "note":
            access = (event.issued or {}).get("access")
            if access:
                live[event.grant, access] = None
            for label in (*(event.get("ended") or ()), *(event.get("revoked") or ())):
                live.pop((event.grant, label), None)
    expired = {
        (event.grant, (event.issued or {}).get("access"))
        for event in history
        if event.get("expires") is not None and event.get("expires") <= again.invoke.t
    }
    busy = {(op.grant, op.bearer) for op in history.operations if op.f == "call" and op.open_at(again.opened)}
    free = [key for key in live if key not in busy and key not in expired and key != (again.grant, again.bearer)]
    return [history.label(grant, label) for grant, label in free]


def _whose(op: Operation, other: Operation) -> str:
    return "its own" if op.actor == other.actor else f"{op.actor}'s"


# After.


def _after(history: History, violation: Violation) -> str:
    """The consequence, in the user's world."""
    if violation.invariant == "co-schedule":
        return _waits(history, violation.operations)
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
    if violation.invariant in ("forced-login", "lost-rotation"):
        return "a person has to log in again"
    return ""


def _left(history: History, commit: Event) -> str:
    """What a refused request leaves of its grant."""
    live = {str(label): history.label(commit.grant, label) for label in commit.get("accepts") or ()}
    if not live:
        return "refused; no refresh token of this grant works any more"
    holders = {
        op.issued.get("refresh"): op.actor
        for op in history.operations
        if op.grant == commit.grant and op.outcome == "ok"
    }
    told = [f"{name} still works, for {holders[label]}" for label, name in live.items() if label in holders]
    lost = [f"{name} never arrived anywhere" for label, name in live.items() if label not in holders]
    return "refused; " + "; ".join(told or lost)


def _waits(history: History, operations: Iterable[Operation]) -> str:
    waited = {event.op: event.get("waited") for event in history.noted("queue")}
    told = [f"{op.actor} waited {waited[op.op]:.3g} s (#{op.opened})" for op in operations if op.op in waited]
    return f"in the service's queue {', '.join(told)}" if told else ""


# The rest.


def _rule(history: History, violation: Violation) -> list[str]:
    policy = history.header.get("policy") or {}
    clock = history.header.get("clock") or {}
    workers = len({op.actor for op in history.operations})
    grants = len(history.noted("login"))
    settings = ", ".join(f"{name} {value}" for name, value in policy.items() if name != "name")
    facts = (
        f"{_count(workers, 'worker')}, {_count(grants, 'grant')}; policy {policy.get('name', '?')}"
        f"{f' ({settings})' if settings else ''}; {clock.get('kind', '?')} clock; {_faults(history)}"
    )
    told = textwrap.wrap(f"{violation.invariant}: {RULES.get(violation.invariant, '')}", WIDTH)
    return [*told, clip(facts)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _faults(history: History) -> str:
    injected = list(dict.fromkeys(op.fault for op in history.operations if op.fault))
    return f"faults: {', '.join(injected)}" if injected else "no faults"


def _overlap(violation: Violation) -> bool:
    return violation.invariant == "co-schedule" and len(violation.operations) > 1


def _numbers(violation: Violation) -> tuple[set[int], set[int]]:
    """What the table marks, and what else it must not leave out."""
    marked = {op.opened for op in violation.operations} or {violation.seq}
    return marked, {violation.seq, *(op.closed for op in violation.operations if op.closed)}


def _list_others(others: Sequence[Violation]) -> list[str]:
    lines = [clip(f"also    #{other.seq}  {other.invariant}: {other}") for other in others[:_OTHERS]]
    further = len(others) - _OTHERS
    return [*lines, f"{_MARGIN}and {further} more"] if further > 0 else lines


def _where(violation: Violation, folder: str | None, files: Sequence[str]) -> list[str]:
    kept = [clip(f"{folder}/  {'  '.join(files)}")] if folder else []
    remedy = f'If this is what you are studying: @pytest.mark.claude_tokens(allow=["{violation.invariant}"])'
    return [*kept, remedy]
