"""Histories of the real service: a sound client is never blamed, a double spend never missed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_server.faults import Fault
from fake_server.policy import PRESETS, Policy
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.judge.judging import judge
from tests.unit.judge.drive import Service

POLICIES = {
    **PRESETS,
    "keycloak(2)": Policy.keycloak(2),
    "by account": Policy(key="account"),
    "bearers end": Policy(name="bearers-end", revoke_access=True),
    "deadlines slide": Policy(name="deadlines-slide", refresh_slides=True),
    "tokens repeat": Policy(name="tokens-repeat", rotate=False, repeat_refresh=True),
    "at once": Policy(name="at-once", at_once="retry"),
}
STRICT = [
    name
    for name, policy in POLICIES.items()
    if policy.rotate and not policy.grace_seconds and policy.at_once == "reuse"
]
BUFFER = 300.0
FAULTS = {"503": Fault.status(503), "429": Fault.status(429), "burst": Fault.BURST, "delay": Fault.delay(3)}


class SoundClient:
    """Several workers, one after the other, over one store: refreshes in time, stores at once, asks nothing twice."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.looks: dict[str, Any] = {}
        self.log_in()

    def log_in(self) -> None:
        grant = self.service.login()
        self.access, self.refresh = grant.access[0].secret, grant.refresh[0].secret
        self.expires = grant.access[0].expires_at
        self.look()

    def look(self, *, final: bool = False) -> None:
        """Journal what is in the store, as the handle does."""
        server = self.service.server
        token = server.authority.refresh_token(self.refresh)
        assert token is not None
        now = server.clock.now()
        before: Any = self.looks.get("token")
        server.journal.note(
            "store",
            account=token.grant.account,
            grant=token.grant.name,
            store="shared",
            state="token",
            refresh=token.label,
            accepted=server.authority.accepts(token, now),
            previous=before.label if before else None,
            previous_accepted=bool(before) and server.authority.accepts(before, now),
            final=final,
        )
        self.looks["token"] = token

    def renew(self, worker: str) -> bool:
        """Whether there is a live bearer now. A busy service is asked four times, then it is left alone."""
        status = None
        for _ in range(4):
            status = self.service.finish(self.service.token(worker, self.refresh))
            if status in (400, 401):
                self.log_in()
                return True
            if status == 200:
                break
        if status != 200:
            return False
        end = self.service.server.journal.events[-1]
        grant = next(it for it in self.service.server.authority.grants if it.name == end.grant)
        labels = dict(end.issued or {})
        access = next(it for it in grant.access if it.label == labels["access"])
        self.access, self.expires = access.secret, access.expires_at
        if labels["refresh"]:  # one that is left out means: keep the old one
            self.refresh = next(it.secret for it in grant.refresh if it.label == labels["refresh"])
        self.look()
        return True

    def call(self, worker: str, *, stream: bool) -> None:
        for _ in range(2):
            if self.service.server.clock.now() + BUFFER >= self.expires and not self.renew(worker):
                return
            if self.service.finish(self.service.call(worker, self.access, stream=stream)) != 401:
                return
            self.expires = 0.0  # whatever the clock says

    def end(self) -> History:
        self.look(final=True)
        names = {grant.name: ["shared"] for grant in self.service.server.authority.grants}
        self.service.end(names)
        return self.service.history


WORKERS = st.sampled_from(["w0", "w1", "w2"])
STEPS = st.one_of(
    st.tuples(st.just("call"), WORKERS, st.booleans()),
    st.tuples(st.just("advance"), st.sampled_from([1.0, 300.0, 20_000.0, 29_000.0, 86_400.0, 2_000_000.0])),
    st.tuples(st.sampled_from(["expire", "revoke"])),
    st.tuples(st.just("fault"), st.sampled_from(["503", "429", "burst", "delay"])),
)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(POLICIES)), steps=st.lists(STEPS, max_size=12))
def test_a_sound_client_is_valid_under_every_policy(name, steps):
    """Expiries, revocations, deadlines, busy services: none of them is the client's fault."""
    service = Service(POLICIES[name])
    client = SoundClient(service)
    for step, *how in steps:
        if step == "call":
            client.call(how[0], stream=how[1])
        elif step == "advance":
            service.server.advance(how[0])
        elif step == "fault":
            service.server.faults.add("token", FAULTS[how[0]])
        else:
            getattr(service.server, step)("work")
    verdict = judge(client.end())

    assert verdict.state == "VALID", verdict.violations
    assert {note.why for note in verdict.notes} <= {"excused"}
    assert POLICIES[name].rotate is False or verdict.notes == ()


@st.composite
def double_spends(draw, policy: Policy, seconds: float) -> History:
    """Two workers and one refresh token: overlapping in some way, or one after the other's success."""
    service = Service(policy)
    grant = service.login(expires_in=0)
    secret = grant.refresh[0].secret
    first = service.token("w0", secret)
    if draw(st.booleans()):
        service.finish(first)
        service.now += seconds
        second = service.token("w1", secret)
    else:
        if draw(st.booleans()):
            service.until(first, "reply")
        service.now += seconds
        second = service.token("w1", secret)
        if draw(st.booleans()):
            service.finish(first)
    for exchange in draw(st.permutations([first, second])):
        service.finish(exchange)
    return service.history


@pytest.mark.parametrize("name", STRICT)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_double_spend_is_invalid_wherever_tokens_rotate(name, data):
    """In whatever order the two are decided and answered."""
    verdict = judge(data.draw(double_spends(POLICIES[name], 1)))

    assert verdict.state == "INVALID"
    assert verdict.violations[0].invariant == "double-spend"
    assert verdict.violations[0].actors == ("w0", "w1")


@pytest.mark.parametrize("name", ["grace", "keycloak(2)", "no-rotation"])
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_where_the_policy_tolerates_it_a_double_spend_is_a_note(name, data):
    """It is told all the same."""
    verdict = judge(data.draw(double_spends(POLICIES[name], 1)))

    assert verdict.violations == ()
    assert all(note.why == "excused" for note in verdict.notes)
    assert [note.violation.invariant for note in verdict.notes] in ([], ["double-spend"])


def test_after_the_grace_window_the_second_is_a_double_spend():
    """A window ends."""
    service = Service(POLICIES["grace"])
    secret = service.login(expires_in=0).refresh[0].secret
    service.finish(service.token("w0", secret))
    service.now += 31
    service.finish(service.token("w1", secret))
    service.end()

    assert [it.invariant for it in judge(service.history).violations] == ["double-spend", "forced-login"]


def test_a_lost_reply_under_reuse_detection_blames_the_replay_and_not_the_loss():
    """The grant was out of reach before it was revoked."""
    service = Service(POLICIES["anthropic-harsh"])
    secret = service.login(expires_in=0).refresh[0].secret
    service.server.faults.add("token", Fault.LOST_REPLY)
    service.finish(service.token("w0", secret))
    service.finish(service.token("w0", secret))
    service.end()
    verdict = judge(service.history)

    assert [it.invariant for it in verdict.violations] == ["blind-replay"]
    assert [note.violation.invariant for note in verdict.notes] == ["forced-login"]


def test_a_client_that_goes_away_while_its_token_rotates_loses_the_login():
    """It hung up by itself, and nobody can have the new token."""
    service = Service(POLICIES["anthropic"])
    exchange = service.token("w0", service.login(expires_in=0).refresh[0].secret)
    service.until(exchange, "reply")
    exchange.abandon("client disconnected")
    service.end()

    assert [str(it) for it in judge(service.history).violations] == ["g#1: rt#2 reached no worker"]


def test_a_scope_that_the_service_does_not_know_costs_nothing():
    """A client that asks again with the scopes of its file is sound, refresh after refresh."""
    service = Service(Policy(scopes=frozenset(["user:inference"])))
    grant = service.login(expires_in=0)
    for n in range(5):
        assert service.finish(service.token("w0", grant.refresh[n].secret, scope="user:plugins")) == 400
        assert service.finish(service.token("w0", grant.refresh[n].secret, scope="user:inference")) == 200
        service.server.expire("work")
    service.end()

    assert judge(service.history).state == "VALID"


def test_a_worker_is_not_blamed_when_the_clock_went_back():
    """The bearer that had expired is good again."""
    service = Service(POLICIES["anthropic"])
    grant = service.login(expires_in=100)
    service.server.advance(100)
    assert service.finish(service.call("w0", grant.access[0].secret)) == 401
    service.server.advance(-50)
    assert service.finish(service.call("w0", grant.access[0].secret)) == 200
    service.server.advance(50)
    assert service.finish(service.call("w0", grant.access[0].secret)) == 401

    assert judge(service.history).state == "VALID"
    service.finish(service.other("w0", grant.access[0].secret))
    assert [it.invariant for it in judge(service.history).violations] == ["stale-bearer"]


def test_a_login_in_the_run_counts_as_the_workers_own():
    """A code exchange brings the first pair."""
    service = Service(POLICIES["anthropic"])
    code = {
        "grant_type": "authorization_code",
        "code": "work#s",
        "redirect_uri": "r",
        "code_verifier": "v",
        "state": "s",
    }
    assert service.finish(service.token("w0", "", **code)) == 200
    service.end()

    assert judge(service.history).state == "VALID"
