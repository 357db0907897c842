"""The authority against a naive model that keeps no state at all, only a diary of what has happened.

The model answers each question by reading its diary from the start: it knows neither the state table nor a token's
state, nor who is whose successor other than by the exchange that says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fake_server.core.authority import Authority, Grant
from fake_server.core.states import Outcome
from fake_server.policy import PRESETS, Policy

LIFE, DEADLINE, GRACE = 50, 200, 30
SHORT: dict[str, Any] = {"expires_in": LIFE, "refresh_expires_in": DEADLINE}

POLICIES = {
    **PRESETS,
    "grace": Policy.grace(GRACE),
    "grace, once": Policy.grace(GRACE, count=1),
    "grace, never": Policy.grace(GRACE, count=0),
    "idempotent": Policy.grace(GRACE, "idempotent"),
    "idempotent, twice, lenient": Policy.grace(GRACE, "idempotent", 2).but(reuse="refuse"),
    "previous-only": Policy.grace(GRACE, "previous-only"),
    "previous-only, floor": Policy.grace(GRACE, "previous-only").but(reuse="revoke-successor"),
    "sibling, floor": Policy.grace(GRACE, "sibling", 1).but(reuse="revoke-successor"),
    "keycloak, one reuse": Policy.keycloak(1),
    "keycloak, two reuses": Policy.keycloak(2),
}


@dataclass(frozen=True)
class Entry:
    """One line of the diary. ``pair`` is what a success handed out: the names of an access and a refresh token."""

    what: str  # login, exchange, reuse, revoke, expire
    at: float
    grant: str
    token: str | None = None
    pair: tuple[str, str | None] = ("", None)
    life: float = LIFE


class Diary:
    """What happened, and what follows from it under one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.entries: list[Entry] = []

    def of(self, grant: str, *kinds: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.grant == grant and (not kinds or entry.what in kinds)]

    def deadline(self, grant: str) -> float:
        return self.of(grant, "login")[0].at + DEADLINE

    def uses(self, grant: str, token: str) -> list[Entry]:
        return [entry for entry in self.of(grant, "exchange") if entry.token == token]

    def killed(self, grant: str) -> list[Entry]:
        """Where its refresh tokens were ended, and by what."""
        kills = self.of(grant, "revoke", "reuse")
        return [entry for entry in kills if entry.what == "revoke" or self.policy.reuse != "refuse"]

    def names(self, grant: str, which: int) -> list[str]:
        """The tokens handed out, in order, each once."""
        handed = [entry.pair[which] for entry in self.of(grant, "login", "exchange")]
        return list(dict.fromkeys(name for name in handed if name))

    def verdict(self, grant: str, token: str, now: float) -> str:
        """What the service says when ``token`` is presented."""
        if self.killed(grant):
            return "refused: revoked"
        if now >= self.deadline(grant):
            return "refused: expired"
        uses = self.uses(grant, token)
        if not self.policy.rotate:
            return "kept"
        if not uses:
            return "rotated"
        first, *replays = uses
        tolerated = now - first.at < self.policy.grace_seconds
        if self.policy.grace_count is not None:
            tolerated = tolerated and len(replays) < self.policy.grace_count
        if self.policy.grace_mode == "previous-only":
            heirs = [entry.pair[1] for entry in uses]
            tolerated = tolerated and not any(self.uses(grant, heir) for heir in heirs if heir)
        return "replayed" if tolerated else "reused"

    def accepted(self, grant: str, now: float) -> tuple[str, ...]:
        good = ("kept", "rotated", "replayed")
        return tuple(name for name in self.names(grant, 1) if self.verdict(grant, name, now) in good)

    def live(self, grant: str, now: float) -> tuple[str, ...]:
        """The refresh tokens that nobody has used and nothing has ended."""
        if self.killed(grant) or now >= self.deadline(grant):
            return ()
        return tuple(name for name in self.names(grant, 1) if not (self.policy.rotate and self.uses(grant, name)))

    def bearer(self, grant: str, name: str, now: float) -> str:
        """What an access token is worth."""
        born = next(entry for entry in self.of(grant, "login", "exchange") if entry.pair[0] == name)
        for entry in self.entries[self.entries.index(born) :]:
            if entry.grant == grant and entry.what == "expire":
                return "expired"
            if entry.grant == grant and entry.what == "revoke":
                return "revoked"
            if entry.grant == grant and entry.what == "reuse" and self.policy.reuse == "revoke-family":
                return "revoked"
        return "live" if now < born.at + born.life else "expired"

    def bearers(self, grant: str, now: float) -> tuple[str, ...]:
        return tuple(name for name in self.names(grant, 0) if self.bearer(grant, name, now) == "live")

    def death(self, grant: str, now: float) -> str | None:
        in_time = [entry for entry in self.killed(grant) if entry.at < self.deadline(grant)]
        return in_time[0].what if in_time else "expiry" if now >= self.deadline(grant) else None

    def write(self, what: str, at: float, grant: str, **facts: Any) -> None:
        self.entries.append(Entry(what, at, grant, **facts))


class AuthorityMachine(RuleBasedStateMachine):
    """Whatever is done in whatever order, the authority and the diary agree."""

    policy: ClassVar[Policy]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.authority = Authority(self.policy, "test")
        self.diary = Diary(self.policy)

    def grant(self, data: st.DataObject) -> Grant:
        return data.draw(st.sampled_from(self.authority.grants), label="grant")

    @initialize()
    def first_login(self) -> None:
        self.login("alice")

    @precondition(lambda self: len(self.authority.grants) < 5)
    @rule(account=st.sampled_from(["alice", "bob"]))
    def login(self, account: str) -> None:
        grant = self.authority.login(account, self.now, scope="user:inference")
        assert (grant.name, grant.account) == (f"g#{len(self.authority.grants)}", account)
        self.diary.write("login", self.now, grant.name, pair=(grant.access[0].label, grant.refresh[0].label))

    # Time passes with the request, and the newest grant is meant: so that a few steps are a story about one window.
    @rule(after=st.sampled_from([0, 1, GRACE // 2 + 1, GRACE - 1, GRACE]), back=st.integers(0, 3))
    def redeem_again(self, after: int, back: int) -> None:
        self.now += after
        grant = self.authority.grants[-1]
        self.redeem(grant, max(0, len(grant.refresh) - 1 - back), None)

    @rule(after=st.sampled_from([GRACE // 2 - 1, GRACE // 2 + 1, GRACE - 1]))
    def redeem_the_first(self, after: int) -> None:
        self.now += after
        self.redeem(self.authority.grants[-1], 0, None)

    @rule(data=st.data(), life=st.sampled_from([None, 10.0]))
    def redeem_any(self, data: st.DataObject, life: float | None) -> None:
        grant = self.grant(data)
        self.redeem(grant, data.draw(st.integers(0, len(grant.refresh) - 1)), life)

    def redeem(self, grant: Grant, index: int, life: float | None) -> None:
        token = grant.refresh[index]
        expected = self.diary.verdict(grant.name, token.label, self.now)
        earlier = self.diary.uses(grant.name, token.label)
        counts = len(grant.access), len(grant.refresh)
        alive = self.diary.live(grant.name, self.now), self.diary.bearers(grant.name, self.now)
        would = self.authority.accepts(token, self.now)

        done = self.authority.redeem(token.secret, self.now, expires_in=life)

        outcome = done.outcome.value
        assert (f"{outcome}: {done.reason}" if outcome == "refused" else outcome) == expected
        assert done.token is token
        assert would is (expected in ("kept", "rotated", "replayed"))
        if not would:
            assert (done.access, done.refresh) == (None, None)
            assert counts == (len(grant.access), len(grant.refresh))
            if expected == "reused":
                mine = self.diary.policy.reuse
                assert set(done.revoked) == {
                    *(alive[0] if mine != "refuse" else ()),
                    *(alive[1] if mine == "revoke-family" else ()),
                }
                assert done.reason == "spent or unknown"
                self.diary.write("reuse", self.now, grant.name)
            return
        assert done.access
        pair = (done.access.label, done.refresh.label if done.refresh else None)
        if expected == "kept":
            assert pair[1] is None
        elif expected == "replayed" and self.diary.policy.grace_mode == "idempotent":
            assert pair == earlier[0].pair
        else:
            assert pair == (f"at#{counts[0] + 1}", f"rt#{counts[1] + 1}")
        self.diary.write(
            "exchange", self.now, grant.name, token=token.label, pair=pair, life=LIFE if life is None else life
        )

    @rule(seconds=st.sampled_from([1, GRACE, LIFE, DEADLINE - LIFE]))
    def advance(self, seconds: int) -> None:
        self.now += seconds

    # One rule for all that is to be rare.
    @rule(data=st.data(), what=st.sampled_from(["expire", "stranger", "deadline", "revoke"]))
    def rarely(self, data: st.DataObject, what: str) -> None:
        grant = self.grant(data)
        bearers = self.diary.bearers(grant.name, self.now)
        if what == "expire":
            assert self.authority.expire(grant, self.now) == bearers
            self.diary.write("expire", self.now, grant.name)
        elif what == "revoke":
            assert self.authority.revoke(grant, self.now) == self.diary.live(grant.name, self.now) + bearers
            self.diary.write("revoke", self.now, grant.name)
        elif what == "deadline":
            self.now = max(self.now, self.diary.deadline(grant.name) + data.draw(st.sampled_from([-1, 0])))
        else:
            done = self.authority.redeem("sk-ant-ort01-somebody-s", self.now)
            assert (done.outcome, done.token, done.reason) == (Outcome.REFUSED, None, "spent or unknown")
            assert self.authority.bearer("sk-ant-oat01-somebody-s", self.now).state == "unknown"

    @invariant()
    def they_agree(self) -> None:
        for grant in self.authority.grants:
            name = grant.name
            assert self.authority.accepted(grant, self.now) == self.diary.accepted(name, self.now)
            assert grant.died(self.now) == self.diary.death(name, self.now)
            assert [token.label for token in grant.refresh] == self.diary.names(name, 1)
            for token in grant.access:
                seen = self.authority.bearer(token.secret, self.now)
                assert (seen.token, seen.state) == (token, self.diary.bearer(name, token.label, self.now))


@pytest.mark.parametrize("policy", [policy.but(**SHORT) for policy in POLICIES.values()], ids=list(POLICIES))
def test_the_authority_agrees_with_a_diary(policy: Policy) -> None:
    """Verdicts, pairs, deaths, bearers and what would be accepted, at every step and at every boundary of time."""
    machine = type("Machine", (AuthorityMachine,), {"policy": policy})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None))


def test_every_policy_of_the_service_is_compared() -> None:
    """All presets, each mode of grace and each reaction to reuse are among the policies above."""
    assert set(PRESETS) <= set(POLICIES)
    assert {policy.grace_mode for policy in POLICIES.values()} == {"sibling", "idempotent", "previous-only"}
    assert {policy.reuse for policy in POLICIES.values()} == {"refuse", "revoke-successor", "revoke-family"}
    assert any(policy.grace_seconds == math.inf for policy in POLICIES.values())
