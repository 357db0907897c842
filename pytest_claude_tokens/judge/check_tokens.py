"""Refresh tokens: each is presented once, and no oftener than access tokens end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.violations import BlindReplay, DoubleSpend, RefreshStorm
from pytest_claude_tokens.judge.wording import by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["check_blind_replay", "check_double_spend", "check_refresh_storm"]


class _Tolerance:
    """What the policy makes of a refresh token that comes again."""

    def __init__(self, history: History) -> None:
        policy = history.policy
        self.rotates: bool = policy.get("rotate", True)
        self.has_grace: bool = bool(policy.get("grace_seconds")) and policy.get("grace_count") != 0
        self._commits = {note.op: note for note in history.noted("commit")}

    def refused(self, op: Operation) -> int | None:
        """The ``seq`` of the event that refused it as dead; ``None`` where the service did no such thing."""
        if (note := self._commits.get(op.op)) is not None:
            return note.seq if note.get("outcome") in ("refused", "reused") else None
        # A file by another hand may have no such notes; then a 4xx that is not known to be anything else says the same.
        end = op.end
        if end is None or end.type != "fail" or op.committed or op.fault or end.status == 429:
            return None
        return end.seq if (end.status or 500) < 500 else None

    @property
    def reason(self) -> str:
        """Why reuse is harmless, where it is."""
        return f"harmless, as the policy {'has a grace window' if self.rotates else 'does not rotate'}"

    def harmless(self, *ops: Operation) -> bool:
        """Whether it is harmless that these presented one token."""
        return not self.rotates or (self.has_grace and all(self.refused(op) is None for op in ops))

    def completed(self, second: Operation, *ops: Operation) -> int:
        """The ``seq`` of the event after which there is no doubt that this is wrong."""
        if not self.has_grace:
            return second.opened
        return max(second.opened, min(seq for op in ops if (seq := self.refused(op)) is not None))


def check_double_spend(history: History) -> Iterator[DoubleSpend]:
    """No refresh token is sent while a request with it is open, or after the success of one has come.

    The first pair of each token is told. Where the policy makes all its pairs harmless, the first one is excused.
    """
    tolerance: _Tolerance | None = None
    for sent in history.presentations.values():
        if len(sent) == 1:
            continue
        tolerance = tolerance or _Tolerance(history)
        wrong: list[tuple[int, Operation, Operation]] = []
        harmless: list[tuple[int, Operation, Operation]] = []
        earlier: list[Operation] = []
        for second in sent:
            earlier = [op for op in earlier if op.outcome == "ok" or op.open_at(second.opened)]
            pair = next((first for first in earlier if not tolerance.harmless(first, second)), None)
            if pair is not None:
                wrong.append((tolerance.completed(second, pair, second), pair, second))
            elif earlier:
                harmless.append((second.opened, earlier[0], second))
            if tolerance.rotates or not earlier:  # else one earlier request says all
                earlier.append(second)
        if wrong or harmless:
            yield _double_spend(history, wrong or harmless, "" if wrong else tolerance.reason)


def _double_spend(history: History, pairs: list[tuple[int, Operation, Operation]], excuse: str) -> DoubleSpend:
    seq, first, second = min(pairs, key=lambda pair: pair[0])
    label = history.label(first.grant, first.refresh)
    whose = "its own" if first.actor == second.actor else f"{first.actor}'s"
    if first.open_at(second.opened):
        cause = f"overlap: {second.actor} sent {label} while {whose} request #{first.opened} with it was open"
    else:
        cause = f"reuse: {second.actor} sent {label} after {whose} request #{first.opened} with it had succeeded"
    return DoubleSpend(
        by(label, [(op.actor, f"#{op.opened}") for op in (first, second)]),
        seq=seq,
        operations=(first, second),
        labels=(label,),
        grant=first.grant,
        cause=cause,
        more=len(pairs) - 1,
        excuse=excuse,
    )


def check_blind_replay(history: History) -> Iterator[BlindReplay]:
    """After a token request whose outcome is unknown, its refresh token is not presented again.

    Where a request with it had succeeded meanwhile, that is a double spend and not this.
    """
    for sent in history.presentations.values():
        unknown = [op for op in sent if op.outcome == "info"]
        if not unknown:
            continue
        tolerance = _Tolerance(history)
        success = min((op.closed for op in sent if op.closed and op.outcome == "ok"), default=math.inf)
        wrong: list[tuple[int, Operation, Operation]] = []
        harmless: list[tuple[int, Operation, Operation]] = []
        for second in sent:
            lost = next((op for op in unknown if op.closed and op.closed < second.opened), None)
            if lost is None or success < second.opened:
                continue
            if tolerance.harmless(second):
                harmless.append((second.opened, lost, second))
            else:
                wrong.append((tolerance.completed(second, second), lost, second))
        if wrong or harmless:
            yield _blind_replay(history, wrong or harmless, "" if wrong else tolerance.reason)


def _blind_replay(history: History, pairs: list[tuple[int, Operation, Operation]], excuse: str) -> BlindReplay:
    seq, lost, second = min(pairs, key=lambda pair: pair[0])
    label = history.label(lost.grant, lost.refresh)
    how = (lost.end.error if lost.end else None) or "no reply"
    return BlindReplay(
        by(label, [(lost.actor, f"#{lost.opened}, unknown outcome"), (second.actor, f"#{second.opened}")]),
        seq=seq,
        operations=(lost, second),
        labels=(label,),
        grant=lost.grant,
        cause=f"replay after an unknown outcome: whether #{lost.opened} spent {label} nobody could know ({how})",
        more=len(pairs) - 1,
        excuse=excuse,
    )


def check_refresh_storm(history: History) -> Iterator[RefreshStorm]:
    """For each grant, refresh requests ≤ access tokens that ended + 1, whenever a token request ends."""
    sent: dict[str | None, list[Operation]] = {}
    for (grant, _), ops in history.presentations.items():
        sent.setdefault(grant, []).extend(ops)
    if all(len(ops) < 2 for ops in sent.values()):
        return
    decided = {note.op for note in history.noted("commit")}
    refreshes = {op.closed: op for ops in sent.values() for op in ops if _counts(op, history, decided)}
    counted: dict[str | None, list[Operation]] = {grant: [] for grant in sent}
    excess: dict[str | None, tuple[int, int]] = {}
    more = dict.fromkeys(sent, 0)
    for event, ended in _lives(history):
        operation = refreshes.get(event.seq)
        if operation is None:
            continue
        grant = operation.invoke.grant
        counted[grant].append(operation)
        if len(counted[grant]) > ended(grant) + 1:
            if grant in excess:
                more[grant] += 1
            else:
                excess[grant] = len(counted[grant]), ended(grant)
    for grant, (requests, ends) in excess.items():
        *_, last = ended_so = counted[grant][:requests]
        ops = sorted(ended_so, key=lambda op: op.opened)  # as they were sent
        tokens = "1 access token" if ends == 1 else f"{ends} access tokens"
        yield RefreshStorm(
            f"{history.label(grant, grant)}: {requests} refreshes, {tokens} ended",
            seq=last.closed or 0,
            operations=ops,
            labels=dict.fromkeys(history.label(grant, op.refresh) for op in ops),
            grant=grant,
            cause=f"{requests} refresh requests although only {tokens} had ended",
            more=more[grant],
        )


def _counts(op: Operation, history: History, decided: set[int | None]) -> bool:
    """Whether this refresh request counts: not what we spoilt, and not what the service had no time for."""
    end = op.end
    if end is None:
        return False
    if end.type == "info":
        ours = (note for f in ("kill", "cancel") for note in history.noted(f) if note.actor == op.actor)
        return op.fault is None and all(note.seq < op.opened for note in ours)
    if end.type == "fail":
        if end.status is None or end.status >= 500 or end.status == 429:
            return False
        if op.fault is not None and not op.committed:
            return False
        # Refused by its form alone (invalid_scope, which clients answer with a second try): nothing was redeemed.
        return not op.committed or op.op in decided
    return True


def _lives(history: History) -> Iterator[tuple[Event, _Ended]]:
    """Each event, and how many access tokens of a grant had ended by then.

    A token ends once: by expiry, by ``expire`` or ``revoke`` or a revocation that came of a reuse, or by its first 401.
    One that has ended stays so when the service's clock goes back.
    """
    ended = _Ended(history)
    unauthorized = {
        op.closed: (op.grant, op.bearer) for op in history.operations if op.status == 401 and op.f != "token"
    }
    for event in history.events:
        ended.at(event.t)
        if event.type == "note":
            if event.f in ("login", "commit"):
                ended.issue(event, event.get("expires"))
            for label in event.get("ended") or event.get("revoked") or ():
                ended.end(event.grant, label)
        elif event.seq in unauthorized:
            ended.end(*unauthorized[event.seq])
        elif event.issued:
            ended.issue(event, None)
        yield event, ended


class _Ended:
    """The access tokens of each grant, and which of them have ended."""

    def __init__(self, history: History) -> None:
        logins = {note.grant for note in history.noted("login")}
        self._life = float(history.policy.get("expires_in", 28800))
        self._now = -math.inf
        self._live: dict[str | None, dict[str, float]] = {}
        # Of a grant whose login was not recorded, the first access token is taken to have ended.
        self._over: dict[str | None, set[str]] = {
            grant: set() if grant in logins else {"at#1"} for grant, _ in history.presentations
        }

    def __call__(self, grant: str | None) -> int:
        self._sweep(grant)
        return len(self._over[grant])

    def at(self, t: float) -> None:
        if t < self._now:
            for grant in self._live:
                self._sweep(grant)
        self._now = t

    def issue(self, event: Event, expires: float | None) -> None:
        label = (event.issued or {}).get("access")
        live = self._live.setdefault(event.grant, {})
        if label is not None and label not in live:
            live[label] = event.t + self._life if expires is None else expires

    def end(self, grant: str | None, label: str | None) -> None:
        if label is not None and label.startswith("at#") and grant in self._over:
            self._over[grant].add(label)

    def _sweep(self, grant: str | None) -> None:
        for label, expires in self._live.get(grant, {}).items():
            if expires <= self._now:
                self.end(grant, label)
