"""Where the newest refresh token is at the end: in a store, in a worker's hands, or lost.

A loss is excused where it follows only from what we did ourselves: a reply that we lost, a worker that we killed or
cancelled. Without the note ``end`` the history is incomplete, and nothing is judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

from fake_server.events import worker_of
from pytest_claude_tokens.judge.violations import ForcedLogin, LostRotation, StoreRegression
from pytest_claude_tokens.judge.wording import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["check_forced_login", "check_lost_rotation", "check_store_regression"]

_BY_ITSELF = ("expiry", "revoke")


def check_lost_rotation(history: History) -> Iterator[LostRotation]:
    """At the end, each live grant with a store has in one of them a refresh token that the service would accept."""
    for grant in _grants(history):
        if grant.death is None and grant.accepts and grant.stores and not grant.kept:
            names = joined([note.get("store") for note in grant.stores])
            yield LostRotation(
                f"{joined(grant.labels)} in no store: {names}",
                seq=grant.seq,
                at_end=True,
                operations=grant.trail.issuers(grant.name, grant.accepts),
                labels=grant.labels,
                grant=grant.name,
                cause=f"the service accepts only {joined(grant.labels)}; {_found(history, grant.stores)}",
                excuse=grant.trail.excuse(grant.name, grant.accepts),
            )


def check_forced_login(history: History) -> Iterator[ForcedLogin]:
    """No grant ends without a live refresh token that reached a worker and, with stores, is still in one of them.

    A grant that expired or was revoked is exempt; a grant that died by reuse detection is not.
    """
    for grant in _grants(history):
        if grant.death == "reuse":
            yield _died_by_reuse(history, grant)
        elif grant.death not in _BY_ITSELF and not grant.usable:
            token = joined(grant.labels) if grant.labels else "a live refresh token"
            where = f"no store has {token}" if grant.stores else f"{token} reached no worker"
            cause = f"a person has to log in again: {where}"
            if grant.stores:
                cause += f"; {_found(history, grant.stores)}"
            yield ForcedLogin(
                f"{history.label(grant.name, grant.name)}: {where}",
                seq=grant.seq,
                at_end=True,
                operations=grant.trail.issuers(grant.name, grant.accepts),
                labels=grant.labels,
                grant=grant.name,
                cause=cause,
                excuse=grant.trail.excuse(grant.name, grant.accepts) if grant.accepts else "",
            )


def _died_by_reuse(history: History, grant: _Grant) -> ForcedLogin:
    reuse = grant.trail.reuses.get(grant.name)
    name = history.label(grant.name, grant.name)
    if reuse is None:
        cause = "a person has to log in again: reuse detection revoked the grant"
        return ForcedLogin(
            f"{name}: revoked by reuse detection", seq=grant.seq, at_end=True, grant=grant.name, cause=cause
        )
    label = history.label(grant.name, reuse.refresh)
    sent = history.presentations.get((grant.name, reuse.refresh or ""), [])
    ops = [op for op in sent if op.opened <= reuse.seq]
    again = next((op for op in ops if op.op == reuse.op), None)
    killed = [token for token in reuse.get("revoked") or () if token.startswith("rt#")]
    whose = f" by {again}" if again else ""
    return ForcedLogin(
        f"{name}: revoked, {label} was reused{whose}",
        seq=grant.seq,
        at_end=True,
        operations=ops,
        labels=[label, *(history.label(grant.name, token) for token in killed)],
        grant=grant.name,
        cause=f"a person has to log in again: reuse detection revoked the grant when {label} came again{whose}",
        # If the newest token was already lost, the reuse took nothing from any worker.
        excuse=grant.trail.excuse(grant.name, killed, before=reuse.seq) if killed else "",
    )


def check_store_regression(history: History) -> Iterator[StoreRegression]:
    """No store changes from a refresh token that the service accepts to one that it doesn't, or to a blank one."""
    setup = _setup_accounts(history)
    found: dict[str | None, list[StoreRegression]] = {}
    for note in history.noted("store"):
        if note.account in setup or not note.get("previous_accepted"):
            continue
        blank = note.get("state") == "blank"
        if blank or (note.get("state") == "token" and not note.get("accepted")):
            found.setdefault(note.get("store"), []).append(_regression(history, note, blank=blank))
    for regressions in found.values():
        first = next((it for it in regressions if not it.excuse), regressions[0])
        first.more = len(regressions) - 1
        yield first


def _regression(history: History, note: Event, *, blank: bool) -> StoreRegression:
    before = history.label(note.get("previous_grant") or note.grant, note.get("previous"))
    after = "blank" if blank else history.label(note.grant, note.refresh)
    ours = next((it for it in _interventions(history) if _is_first_look(history, it, note)), None)
    name, now = note.get("store"), "no refresh token at all" if blank else f"{after}, which it doesn't"
    return StoreRegression(
        f"{before} -> {after} in {name}",
        seq=note.seq,
        at_end=bool(note.get("final")),
        labels=(before,) if blank else (before, after),
        grant=note.grant,
        cause=f"{name} had {before}, which the service accepts, and now has {now}",
        excuse=f"we did that: {_did(ours)}" if ours else "",
    )


def _is_first_look(history: History, ours: Event, note: Event) -> bool:
    """Whether ``note`` is from the first reading of the stores after we ended a worker: its state is our doing then.

    Stores are read after each reply, so one reply may lie between, and the ends of that worker's open requests.
    """
    if ours.seq > note.seq:
        return False
    ends = [op.actor for op in history.operations if op.closed is not None and ours.seq < op.closed < note.seq]
    return len([actor for actor in ends if ours.actor not in (actor, worker_of(actor))]) <= 1


def _did(ours: Event) -> str:
    return f"{ours.f} {ours.actor} (#{ours.seq})"


# A grant at the end.


@dataclass
class _Grant:
    """One grant at the end. ``stores``: the last note of each of its stores; ``kept``: one of them has a token."""

    history: History
    name: str
    seq: int
    accepts: list[str]
    death: str | None
    stores: list[Event]
    kept: bool
    find_trail: Callable[[], _Trail] = field(repr=False)
    """One for all grants: it is made of the whole history."""

    @cached_property
    def labels(self) -> list[str]:
        """The labels of the refresh tokens that the service accepts, as shown in reports."""
        return [self.history.label(self.name, token) for token in self.accepts]

    @property
    def trail(self) -> _Trail:
        """The origin and the whereabouts of its tokens."""
        return self.find_trail()

    @property
    def usable(self) -> bool:
        """Whether a worker can go on with this grant without a new login."""
        if self.stores:
            return self.kept
        return any(self.trail.reached(self.name, token) for token in self.accepts)


def _grants(history: History) -> Iterator[_Grant]:
    """The grants to judge at the end: none without the note ``end``, and no setup-tokens."""
    for end in history.noted("end")[:1]:
        grants: dict[str, dict[str, Any]] = end.get("grants") or {}
        looks = {note.get("store"): note for note in history.noted("store")}
        find_trail = cache(partial(_Trail.of, history))
        for grant, facts in grants.items():
            if not facts.get("setup_token"):
                stores = [looks[name] for name in facts.get("stores") or () if name in looks]
                yield _Grant(
                    history=history,
                    name=grant,
                    seq=end.seq,
                    accepts=list(facts.get("accepts") or ()),
                    death=facts.get("death"),
                    stores=stores,
                    kept=any(_is_accepted(look, grants) for look in stores),
                    find_trail=find_trail,
                )


def _is_accepted(look: Event, grants: dict[str, dict[str, Any]]) -> bool:
    """Whether the service accepts at the end the token last seen in a store, of this grant or of a newer login."""
    if look.get("state") != "token" or not look.get("accepted"):
        return False
    return bool(look.get("final")) or look.refresh in (grants.get(look.grant or "", {}).get("accepts") or ())


def _setup_accounts(history: History) -> set[str | None]:
    """The accounts that have only setup-tokens."""
    kinds: dict[str | None, bool] = {}
    for note in history.noted("login"):
        kinds[note.account] = kinds.get(note.account, True) and bool(note.get("setup_token"))
    return {account for account, only in kinds.items() if only}


def _interventions(history: History) -> list[Event]:
    """The notes of workers that we killed or cancelled."""
    return sorted((*history.noted("kill"), *history.noted("cancel")), key=lambda note: note.seq)


def _found(history: History, looks: list[Event]) -> str:
    """The final content of each store, in words."""
    return joined(
        [
            f"{look.get('store')} has {history.label(look.grant, look.refresh)}"
            if look.get("state") == "token"
            else f"{look.get('store')} is {look.get('state')}"
            for look in looks
        ]
    )


@dataclass(slots=True)
class _Trail:
    """For each refresh token, the request that issued it, and when it was first ``seen`` outside the service: presented
    by a client, or in a store.
    """

    ours: list[Event]
    from_login: set[tuple[str | None, str]] = field(default_factory=set)
    brought: dict[tuple[str | None, str], list[Operation]] = field(default_factory=dict)
    seen: dict[tuple[str | None, str], int] = field(default_factory=dict)
    reuses: dict[str | None, Event] = field(default_factory=dict)
    """The commit of each grant at which the service first detected a reuse."""

    @classmethod
    def of(cls, history: History) -> _Trail:
        trail = cls(_interventions(history))
        by_op = {op.op: op for op in history.operations}
        for note in history.noted("login"):
            if refresh := (note.issued or {}).get("refresh"):
                trail.from_login.add((note.grant, refresh))
        for note in history.noted("commit"):
            if note.get("outcome") == "reused":
                trail.reuses.setdefault(note.grant, note)
            if (refresh := (note.issued or {}).get("refresh")) and note.op in by_op:
                trail.brought.setdefault((note.grant, refresh), []).append(by_op[note.op])
        for op in history.operations:
            if (refresh := op.issued.get("refresh")) and op not in trail.brought.setdefault((op.grant, refresh), []):
                trail.brought[op.grant, refresh].append(op)
        for key, sent in history.presentations.items():
            trail.seen[key] = sent[0].opened
        for note in history.noted("store"):
            if note.refresh:
                key = note.grant, note.refresh
                trail.seen[key] = min(note.seq, trail.seen.get(key, note.seq))
        return trail

    def issuers(self, grant: str, tokens: list[str]) -> list[Operation]:
        """The requests that issued these tokens."""
        return [op for token in tokens for op in self.brought.get((grant, token), ())]

    def reached(self, grant: str, token: str, before: float = float("inf")) -> bool:
        """Whether this refresh token had reached a worker before the event ``before``."""
        key = (grant, token)
        if key in self.from_login or self.seen.get(key, before) < before:
            return True
        return any(op.outcome == "ok" and (op.closed or 0) < before for op in self.brought.get(key, ()))

    def excuse(self, grant: str, tokens: list[str], before: float = float("inf")) -> str:
        """How we caused that no worker and no store has any of these tokens; ``""`` if we did not."""
        reasons = [self._why_lost(grant, token, before) for token in tokens]
        return f"we did that: {joined(list(dict.fromkeys(reasons)))}" if all(reasons) else ""

    def _why_lost(self, grant: str, token: str, before: float) -> str:
        key = (grant, token)
        ops = self.brought.get(key, [])
        if self.seen.get(key, before) < before or not ops:
            return ""
        whys = [self._what_we_did(op, before) for op in ops]
        if self.reached(grant, token, before):
            # It reached a worker, which was then killed before it stored the token.
            whys = [why for why, op in zip(whys, ops, strict=True) if op.outcome == "ok"]
        return whys[0] if whys and all(whys) else ""

    def _what_we_did(self, op: Operation, before: float) -> str:
        end = op.end
        if end is not None and end.seq < before and op.fault and (end.type == "info" or op.replaced):
            return f"{op.fault} of #{op.opened}"
        whose = (op.actor, worker_of(op.actor))
        note = next((note for note in self.ours if note.actor in whose and op.opened < note.seq < before), None)
        return _did(note) if note else ""
