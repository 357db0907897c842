"""Refreshes that nobody needed: more than access tokens ended, or of a pair that is still as good as new.

Two clauses. The first counts, and so forgives one early refresh per grant: any worker may refresh ahead of time. The
second looks at a single pair, so that it needs no more than two workers: what a refresh has just brought is not
refreshed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fake_server.events import worker_of
from pytest_claude_tokens.judge.lifetimes import Lifetimes
from pytest_claude_tokens.judge.violations import RefreshStorm
from pytest_claude_tokens.judge.wording import by, count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["check_refresh_storm"]


@dataclass(slots=True)
class _Refreshes:
    """The refresh requests of one grant that count, in the order of their ends."""

    ended: list[Operation] = field(default_factory=list)
    found: RefreshStorm | None = None
    """The first violation."""


def check_refresh_storm(history: History) -> Iterator[RefreshStorm]:
    """For each grant, refresh requests ≤ access tokens that ended + 1, whenever a token request ends.

    And no pair that a refresh brought is refreshed again while its access token is live, was not refused, and less than
    half of its life is over. There is one violation for each grant: the first.
    """
    sent: dict[str | None, list[Operation]] = {}
    for (grant, _), ops in history.presentations.items():
        sent.setdefault(grant, []).extend(ops)
    if all(len(ops) < 2 for ops in sent.values()):
        return
    outcomes = {note.op: note.get("outcome") for note in history.noted("commit")}
    counted = {op.closed: op for ops in sent.values() for op in ops if _counts(op, history, outcomes)}
    refreshes = {grant: _Refreshes() for grant in sent}
    lifetimes, pairs = Lifetimes(history), _Pairs(history)
    for event in history.events:
        lifetimes.observe(event)
        pairs.observe(event, lifetimes)
        operation = counted.get(event.seq)
        if operation is not None:
            grant = operation.invoke.grant
            so_far = refreshes[grant]
            so_far.ended.append(operation)
            tokens = lifetimes.ended(grant)
            too_many = len(so_far.ended) > tokens + 1
            if so_far.found is not None:
                so_far.found.more += too_many or pairs.is_needless(operation)
            elif too_many:
                so_far.found = _too_many(history, so_far.ended, tokens)
            elif pairs.is_needless(operation):
                so_far.found = pairs.needless(operation)
    for so_far in refreshes.values():
        if so_far.found is not None:
            yield so_far.found


def _too_many(history: History, ended: list[Operation], tokens: int) -> RefreshStorm:
    """The violation of the first clause: ``ended`` are more refreshes than ``tokens`` access tokens that ended + 1."""
    requests = len(ended)
    *_, last = ended
    grant = last.invoke.grant
    ops = sorted(ended, key=lambda op: op.opened)  # in the order in which they were sent
    number = count(tokens, "access token")
    return RefreshStorm(
        f"{history.label(grant, grant)}: {requests} refreshes, {number} ended",
        seq=last.closed or 0,
        operations=ops,
        labels=dict.fromkeys(history.label(grant, op.refresh) for op in ops),
        grant=grant,
        cause=f"{requests} refresh requests although only {number} had ended",
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """A pair that a refresh brought: the request, the label of its access token, and the event of its arrival."""

    brought: Operation
    access: str
    seq: int


class _Pairs:
    """The second clause: the pairs that refreshes brought, and the refreshes that were sent while those were good.

    A pair is known by its refresh token; so without rotation there is none, where each worker may well keep a copy of
    the one refresh token and an access token of its own. With rotation that can be told where they share a file which
    holds the refresh token ``alone``: a worker that has had no access token yet needs one.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._by_end = {op.closed: op for ops in history.presentations.values() for op in ops}
        self._by_start = {op.opened: op for ops in history.presentations.values() for op in ops}
        self._pairs: dict[tuple[str | None, str | None], _Pair] = {}
        self._denied = {op.closed: op for op in history.operations if op.status in (401, 403) and op.f != "token"}
        self._refused: set[tuple[str | None, str | None]] = set()
        self._alone: dict[tuple[str | None, str | None], bool] = {}
        """Whether all stores that hold this refresh token hold no access token."""
        self._have_had_one: set[tuple[str | None, str]] = set()
        """The workers that have had an access token of the grant: a refresh brought it, or it was refused."""
        self._sent_too_early: dict[int, tuple[_Pair, float, float]] = {}

    def observe(self, event: Event, lifetimes: Lifetimes) -> None:
        """Take the next event into account, after ``lifetimes`` has."""
        if event.type == "invoke":
            if (op := self._by_start.get(event.seq)) is not None:
                self._look(op, lifetimes)
        elif (op := self._denied.get(event.seq)) is not None:
            self._have_had_one.add((op.grant, op.actor))
            if op.status == 403:  # not an end of the token, but a reason to ask for another
                self._refused.add((op.grant, op.bearer))
        elif event.type == "ok" and (op := self._by_end.get(event.seq)) is not None:
            access, refresh = op.issued.get("access"), op.issued.get("refresh")
            self._have_had_one.add((op.grant, op.actor))
            if access and refresh and refresh != op.refresh:
                self._pairs.setdefault((op.grant, refresh), _Pair(op, access, event.seq))
        elif event.f == "store":
            key = event.grant, event.refresh
            self._alone[key] = self._alone.get(key, True) and bool(event.get("alone"))
        elif event.type == "note" and event.f in ("kill", "cancel"):
            # Whoever held a pair may have lost its access token by what we did.
            self._pairs.clear()

    def _look(self, op: Operation, lifetimes: Lifetimes) -> None:
        """Remember a refresh whose pair is good at the time when it is sent."""
        pair = self._pairs.get((op.grant, op.refresh))
        if pair is None or (op.grant, pair.access) in self._refused:
            return
        if self._alone.get((op.grant, op.refresh)) and (op.grant, op.actor) not in self._have_had_one:
            return
        age, life = lifetimes.age(op.grant, pair.access)
        if lifetimes.is_live(op.grant, pair.access) and age < life / 2:
            self._sent_too_early[op.opened] = pair, age, life

    def is_needless(self, op: Operation) -> bool:
        """Whether this refresh was sent while its pair was good."""
        return op.opened in self._sent_too_early

    def needless(self, op: Operation) -> RefreshStorm:
        """The violation of the second clause, by a refresh that was needless."""
        pair, age, life = self._sent_too_early[op.opened]
        history, grant, brought = self._history, op.grant, pair.brought
        refresh, access = history.label(grant, op.refresh), history.label(grant, pair.access)
        whose = "its own" if brought.actor == op.actor else f"{brought.actor}'s"
        return RefreshStorm(
            by(refresh, [(op.actor, f"#{op.opened}, {pair.access} still good")]),
            seq=op.closed or 0,
            operations=(brought, op),
            labels=(refresh, access),
            grant=grant,
            cause=f"{op.actor} refreshed (#{op.opened}) what {whose} refresh #{brought.opened} had brought "
            f"(#{pair.seq}): {access} was live, {age:.6g} s of {life:.6g} s old, and nobody had been refused with it",
        )


def _counts(op: Operation, history: History, outcomes: dict[int | None, str | None]) -> bool:
    """Whether this refresh request counts. Requests that a fault or kill of ours, a 429 or a 5xx ended, do not."""
    end = op.end
    if end is None:
        return False
    if end.type == "info":
        whose = (op.actor, worker_of(op.actor))
        ours = (note for f in ("kill", "cancel") for note in history.noted(f) if note.actor in whose)
        return op.fault is None and all(note.seq < op.opened for note in ours)
    if end.type == "fail":
        if end.status is None or end.status >= 500 or end.status == 429:
            return False
        if op.replaced or (op.fault is not None and not op.committed):
            return False
        if outcomes.get(op.op) == "retry":  # the policy asked for another try
            return False
        # Refused for its form (invalid_scope, after which clients retry): no token was redeemed.
        return not op.committed or op.op in outcomes
    return True
