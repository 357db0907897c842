"""Classifies a violation: which mistake in the dispatcher led to it, as far as the history shows it.

The evidence is in the first event of each request, where a witness has seen the run: which locks its worker held, had
lost or had given up waiting for, and when it had read and written the file with the login. Where the evidence fits two
mistakes, both are named; where there is none, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fake_server.events import worker_of

if TYPE_CHECKING:
    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation
    from pytest_claude_tokens.judge.violations import Violation

__all__ = ["mistake"]

_FRESH_SECONDS = 1.0
"""A lease that was younger than this when another took it away had not expired: it was taken for an older one."""

_CONNECTION = re.compile(r"c\d+")
"""The name that the service gives to a connection where it knows nothing better of a client."""

_LOCKS = "lock (asyncio, threading, file)"


def mistake(history: History, violation: Violation) -> str:
    """The mistake behind a violation, in words; ``""`` where the history does not show one."""
    by_number = {op.op: op for op in history.operations}
    ops = [by_number.get(op.op, op) for op in violation.operations]
    if violation.invariant in ("forced-login", "lost-rotation"):
        return _lost(history, ops[-1]) if ops else ""
    if len(ops) < 2 or violation.invariant not in _RULES:
        return ""
    pair = _Pair(history, ops[0], ops[-1])
    found = next((found for rule in _RULES[violation.invariant] if (found := rule(pair))), "")
    return f"{found}; {_when(pair)}" if found and violation.invariant == "double-spend" else found


def _when(pair: _Pair) -> str:
    if pair.overlap:
        return f"#{pair.first.opened} was still open"
    return f"{pair.first.actor} had received {pair.fresh} (#{pair.first.closed})"


def _lost(history: History, op: Operation) -> str:
    """Why nobody has the refresh token that this request has brought."""
    if op.outcome == "info" and op.committed and not op.fault:
        spent, why = history.label(op.grant, op.refresh), op.end.error if op.end else None
        return f"reply dropped: {op.actor} gave up its request #{op.opened} ({why}), which had spent {spent}"
    if op.outcome != "ok":
        return ""
    refresh = op.issued.get("refresh")
    for note in history.noted("store"):
        if (note.grant, note.refresh) == (op.grant, refresh):
            return f"overwritten: {note.get('store')} had {history.label(op.grant, refresh)} (#{note.seq})"
    return f"not stored: {op.actor} received {history.label(op.grant, refresh)} (#{op.closed}), and no store got it"


class _Pair:
    """The two requests that collide, and what was seen of each."""

    def __init__(self, history: History, first: Operation, again: Operation) -> None:
        self.history = history
        self.first, self.again = first, again
        self.seen_first: dict[str, Any] = dict(first.invoke.get("seen") or {})
        self.seen_again: dict[str, Any] = dict(again.invoke.get("seen") or {})

    @property
    def seen(self) -> bool:
        """Whether there was a witness."""
        return bool(self.seen_first and self.seen_again)

    @property
    def overlap(self) -> bool:
        """Whether the first was still open when the other was sent."""
        return self.first.open_at(self.again.opened)

    @property
    def same_worker(self) -> bool:
        """Whether one worker sent both."""
        return self.first.actor == self.again.actor

    @property
    def what(self) -> str:
        """The token that both presented."""
        token = self.first.refresh if self.first.f == "token" else self.first.bearer
        return self.history.label(self.first.grant, token)

    @property
    def fresh(self) -> str:
        """The refresh token that the first has brought."""
        return self.history.label(self.first.grant, self.first.issued.get("refresh"))

    @property
    def kept(self) -> bool:
        """Whether a worker or a store had the new refresh token before the old one was sent again."""
        key, before = (self.first.grant, self.first.issued.get("refresh")), self.again.opened
        sent = self.history.presentations.get((key[0], key[1] or ""), [])
        stored = [note for note in self.history.noted("store") if (note.grant, note.refresh) == key]
        return any(op.opened < before for op in sent) or any(note.seq < before for note in stored)

    def shared(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The lock that both workers held when they sent their requests, as each of them held it."""
        mine = {hold["lock"]: hold for hold in self.seen_first["held"]}
        return next(((mine[hold["lock"]], hold) for hold in self.seen_again["held"] if hold["lock"] in mine), None)


# What became of the worker that sent the first request.


def _reply_dropped(pair: _Pair) -> str:
    first = pair.first
    if (note := _end_of(pair.history, first.actor, pair.again.opened)) is None or pair.kept:
        return ""
    how = "cancelled" if note.f == "cancel" else "killed"
    if first.outcome == "ok":
        return f"reply dropped: {first.actor} was {how} (#{note.seq}), and nobody kept {pair.fresh} of its request"
    if first.outcome == "info" and note.seq > first.opened:
        return (
            f"retry after an unknown outcome: {first.actor} was {how} (#{note.seq}) while its request was under way, "
            f"and {pair.again.actor} took {pair.what} for unspent"
        )
    return ""


def _end_of(history: History, worker: str, before: int) -> Event | None:
    """The note that the schedule has ended this worker, before that event."""
    notes = (*history.noted("cancel"), *history.noted("kill"))
    return next((note for note in notes if note.actor == worker and note.seq < before), None)


def _retry(pair: _Pair) -> str:
    if not pair.same_worker:
        if _CONNECTION.fullmatch(pair.first.actor) and _CONNECTION.fullmatch(pair.again.actor):
            return (
                f"retry after an unknown outcome: {pair.what} came again on another connection ({pair.again.actor}), "
                f"as that on {pair.first.actor} had no reply: by a transport that tries again, or by another worker"
            )
        had = f"as {pair.first.actor} had no reply with it"
        return f"retry after an unknown outcome: {pair.again.actor} took {pair.what} for unspent, {had}"
    mine = {call["call"]: call for call in pair.seen_first.get("calls", ())}
    for call in pair.seen_again.get("calls", ()):
        if (before := mine.get(call["call"])) is None:
            continue
        within = f"by itself, within one call{_at(call['at'])}"
        if call["inner"] is None:
            return f"a retry of the transport's: {call['library']} sent {pair.what} again {within}"
        if call["inner"] != before["inner"]:
            return f"a retry of a library's: {call['library']} called {call['of']}() again {within}"
    return f"retry after an unknown outcome: {pair.first.actor} sent {pair.what} again itself"


def _own_copy(pair: _Pair) -> str:
    if not pair.same_worker or pair.overlap:
        return ""
    return (
        f"a stale copy: {pair.first.actor} went back to {pair.what}, as after a restart, although it had {pair.fresh}"
    )


def _two_processes(pair: _Pair) -> str:
    first, again = pair.first.actor, pair.again.actor
    if first == again or worker_of(first) != worker_of(again):
        return ""
    return (
        f"a copy in two processes (a fork, or a second start): {first} and {again} are of one worker, and each had "
        f"{pair.what}"
    )


# Locks.


def _lease_lost(pair: _Pair) -> str:
    first, again = pair.first, pair.again
    got = {hold["lock"] for hold in pair.seen_again["held"]}  # where a third one has removed the lease
    wrote = pair.seen_first.get("wrote")
    late = [  # it had its reply by then, but had not kept it
        hold for hold in pair.seen_first["held"] if hold.get("taken_by") and (wrote is None or wrote > hold["released"])
    ]
    for hold in [*pair.seen_first["lost"], *late]:
        taker = hold["taken_by"]
        if hold["released"] > pair.seen_again["sent"] or (taker != again.actor and hold["lock"] not in got):
            continue
        if hold["after"] < _FRESH_SECONDS:
            return (
                f"a fresh lease was taken for a stale one: {taker} removed {hold['lock']}, which "
                f"{first.actor} had just made{_at(hold['taken_at'])}"
            )
        return (
            f"lease expired while held: {taker} took {hold['lock']} away after {hold['after']:g} s, while "
            f"{first.actor} was slow and not done{_at(hold['taken_at'])}"
        )
    return ""


def _gave_up(pair: _Pair) -> str:
    wanted = {hold["lock"]: hold for hold in pair.seen_again["gave_up"]}
    for hold in pair.seen_first["held"]:
        kept = hold["released"] is None or hold["released"] > pair.seen_again["sent"]
        if hold["lock"] in wanted and not pair.seen_again["held"] and (pair.overlap or kept):
            return (
                f"gave up waiting: {pair.again.actor} did not get {hold['lock']}, which {pair.first.actor} held"
                f"{_at(hold['at'])}, and went on without it{_at(wanted[hold['lock']]['at'])}"
            )
    return ""


def _different_leases(pair: _Pair) -> str:
    mine, other = pair.seen_first["held"], pair.seen_again["held"]
    if not mine or not other or pair.shared():
        return ""
    names = "" if pair.first.f == "token" else f": two names, or two pools, for {pair.what}"
    return (
        f"different leases: {pair.first.actor} held {_named(mine)} and {pair.again.actor} held {_named(other)}{names}"
    )


def _shared_lock(pair: _Pair) -> str:
    if (shared := pair.shared()) is None:
        return ""
    mine, other = shared
    if pair.same_worker and pair.overlap and mine["tick"] == other["tick"]:
        return f"twice under one lock: {pair.first.actor} sent both while it held {mine['lock']}{_at(mine['at'])}"
    if mine["released"] is None or mine["released"] > other["tick"]:
        both = f"{pair.first.actor} and {pair.again.actor} both held {mine['lock']}"
        return f"a lock for several: {both}{_at(mine['at'])}"
    if not pair.overlap:
        return _one_after_the_other(pair, mine, other)
    part = "the body of its reply" if pair.first.f == "call" else "its reply"
    return (
        f"released before the body ended: {pair.first.actor} let {mine['lock']} go{_at(mine['at'])} before it had "
        f"{part} (#{pair.first.opened}), and {pair.again.actor} got it"
    )


def _one_after_the_other(pair: _Pair, mine: dict[str, Any], other: dict[str, Any]) -> str:
    """Both held the same lock, the second after the first had its reply."""
    first, again, lock = pair.first.actor, pair.again.actor, mine["lock"]
    read, wrote = pair.seen_again.get("read"), pair.seen_first.get("wrote")
    if read is not None and read["tick"] < other["tick"]:
        return (
            f"read before acquire: {again} had read {read['file']} before it got {lock}{_at(other['at'])}, and did not "
            "look again"
        )
    if read is not None and (wrote is None or mine["released"] < read["tick"] < wrote):
        return (
            f"released before the store was written: {first} let {lock} go{_at(mine['at'])}, and {again} read "
            f"{read['file']} before {pair.fresh} was in it"
        )
    return (
        f"read before acquire, or released before it was kept: {again} got {lock}{_at(other['at'])} after {first} had "
        f"got {pair.fresh}, and sent {pair.what} all the same"
    )


def _stored_late(pair: _Pair) -> str:
    """No lock in common, and a store that is a file."""
    read, wrote, ended = pair.seen_again.get("read"), pair.seen_first.get("wrote"), pair.seen_first["ended"]
    if not pair.overlap and read is not None and read["tick"] > ended and (wrote is None or wrote > read["tick"]):
        return (
            f"stored too late: {pair.first.actor} had {pair.fresh} (#{pair.first.closed}) and had not written it to "
            f"{read['file']} when {pair.again.actor} read it"
        )
    return ""


def _one_sided(pair: _Pair) -> str:
    mine, other = pair.seen_first["held"], pair.seen_again["held"]
    if bool(mine) == bool(other):
        return ""
    with_it, without = (pair.first, pair.again) if mine else (pair.again, pair.first)
    return f"no lease on one side: {with_it.actor} held {_named(mine or other)}, and {without.actor} held none"


def _no_lease(pair: _Pair) -> str:
    if pair.same_worker:
        return f"no lease seen: {pair.first.actor} sent {pair.what} twice at once, and held no {_LOCKS}"
    late = pair.again.invoke.t - pair.first.invoke.t if pair.overlap else 0.0  # who is done needs its lease no more
    waited = f", and {late:g} s lay between: a lease of another kind may have expired" if late >= _FRESH_SECONDS else ""
    neither = f"neither {pair.first.actor} nor {pair.again.actor} held a {_LOCKS}"
    return f"no lease seen: {neither} when it sent {pair.what}{waited}"


def _chosen(pair: _Pair) -> str:
    turns = " (the calls took the bearers in turn, as in a blind round-robin)" if _in_turns(pair.history) else ""
    return f"chosen while in use: {pair.again.actor} took {pair.what}, which {pair.first.actor} was still using{turns}"


def _in_turns(history: History) -> bool:
    """Whether all calls have taken several bearers strictly in turn, for two rounds at least."""
    taken = [(op.grant, op.bearer) for op in history.operations if op.f == "call"]
    order = list(dict.fromkeys(taken))
    return len(taken) >= 2 * len(order) > 2 and all(one == order[n % len(order)] for n, one in enumerate(taken))


def _stale_refusal(pair: _Pair) -> str:
    access = pair.first.issued.get("access")
    for op in pair.history.operations:
        refused = op.f == "call" and op.status == 401 and op.actor == pair.again.actor and op.bearer != access
        if refused and op.closed is not None and op.closed < pair.again.opened:
            old, new = pair.history.label(op.grant, op.bearer), pair.history.label(pair.first.grant, access)
            return (
                f"refreshed for an old refusal: {op.actor} had been refused {old} (#{op.closed}), and did not see that "
                f"{new} had taken its place"
            )
    return ""


# The order in which they are tried: what happened to a worker or to its lock, before what it failed to do.

Rule = Callable[[_Pair], str]


def _if_seen(rule: Rule) -> Rule:
    return lambda pair: rule(pair) if pair.seen else ""


_LEASES = [_if_seen(rule) for rule in (_lease_lost, _gave_up, _different_leases, _shared_lock)]
_RULES: dict[str, list[Rule]] = {
    "double-spend": [
        _reply_dropped,
        _two_processes,
        _own_copy,
        *_LEASES,
        *map(_if_seen, (_stored_late, _one_sided, _no_lease)),
    ],
    "blind-replay": [_reply_dropped, _two_processes, _retry],
    "refresh-storm": [_stale_refusal],
    "co-schedule": [*_LEASES, *map(_if_seen, (_one_sided, _chosen))],
}


def _named(holds: list[dict[str, Any]]) -> str:
    """Each once: a library may make a lock's file with ``O_EXCL`` and lock it, too."""
    return " and ".join(dict.fromkeys(f"{hold['lock']}{_at(hold['at'])}" for hold in holds))


def _at(place: Any) -> str:
    return f" ({place})" if place else ""
