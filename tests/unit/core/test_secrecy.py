"""Random traffic: no secret is ever journalled, each operation has two lines, and a repetition gives the same bytes."""

from __future__ import annotations

import json
import re
from collections import Counter

import hypothesis.strategies as st
from hypothesis import given, settings

from fake_server.effects import Piece
from fake_server.exchange import Exchange
from fake_server.faults import Fault
from fake_server.protocol.wire import Request
from fake_server.tokens import TOKEN
from tests.unit.core.harness import JSON, Answer, World, authorization, call, code, refresh, token_request

FOREIGN = "Zk4-a-real-secret-of-somebody-else"
REAL = f"sk-ant-ort01-{FOREIGN}"
PART = re.compile(r"FAKE|sk-ant")

FAULTS = [
    Fault.LOST_REPLY,
    Fault.RESET,
    Fault.TIMEOUT,
    Fault.GARBAGE,
    Fault.TRUNCATED,
    Fault.BURST,
    Fault.status(503, retry_after=1),
    Fault.delay(1),
    Fault.delay(1, after_commit=True),
    Fault.quota(),
    Fault.html(),
    Fault.moved(),
]

POLICIES = ["anthropic", "anthropic-harsh", "rfc9700-floor", "grace", "keycloak", "no-rotation", "gateway"]
STEPS = st.tuples(
    st.sampled_from(["refresh", "call", "stream", "login", "revoke", "profile", "odd", "fault", "advance", "expire"]),
    st.integers(0, 11),  # which token, fault, second or odd request
    st.integers(0, 9),  # after how many effects its client leaves
)


def odd(which: int, secret: str) -> Request:
    """A request that has a secret in a place where none belongs."""
    return [
        refresh(secret, client_id=secret, scope=secret),
        refresh(secret, client_id=""),
        refresh(secret, grant_type=secret),
        code(secret),
        code(f"alice#{secret}"),
        token_request(secret.encode()),
        token_request({"token": secret}, path="/v1/oauth/token/revoke"),
        Request.parse("GET", f"/w/{secret}/api/hello?token={secret}", JSON, b"") if "sk-" in secret else call(secret),
        Request("GET", f"/x/{secret}" if "sk-" in secret else "/x", authorization(secret), secret.encode()),
        call(secret, model=secret, messages=[{"role": "user", "content": f"Reply: {secret}"}]),
        Request("HEAD", "/", (*authorization(secret), ("x-api-key", secret), ("cookie", secret))),
        Request(
            "POST", "/v1/messages", (("authorization", secret),), secret.encode(), secret if "sk-" in secret else ""
        ),
    ][which]


def request_of(kind: str, which: int, secret: str) -> Request:
    """The request of one step."""
    if kind == "login":
        return code(f"user{which}", expires_in=31536000 if which % 3 else 60)
    if kind == "odd":
        return odd(which, secret or REAL)
    if kind == "refresh":
        return refresh(secret)
    if kind == "revoke":
        return token_request({"token": secret}, path="/v1/oauth/token/revoke")
    if kind == "profile":
        return Request("GET", "/api/oauth/profile", authorization(secret))
    return call(secret, stream=kind == "stream")


def secrets_of(world: World) -> list[str]:
    """Everybody's, the newest last."""
    found = [REAL, FOREIGN, ""]
    for grant in world.server.authority.grants:
        found += [token.secret for token in grant.access]
        found += [token.secret for token in grant.refresh]
    return found


def play(policy: str, steps: list[tuple[str, int, int]]) -> World:
    """Run the traffic; up to three requests are under way at once."""
    world = World(policy, expires_in=30, latency={"call": 1}, queue_limit=3)
    under_way: list[tuple[Exchange, int]] = []
    world.login()
    for kind, which, patience in steps:
        secrets = secrets_of(world)
        if kind == "fault":
            world.server.faults.add("call" if which % 2 else "token", FAULTS[which])
        elif kind == "advance":
            world.server.advance(which * 5)
        elif kind == "expire":
            world.server.expire("alice")
        else:
            request = request_of(kind, which, secrets[-1 - which % len(secrets)])
            under_way.append((world.begin(request, request.worker or f"w{which % 3}"), patience))
        if len(under_way) == 3:
            finish(world, under_way)
    finish(world, under_way)
    return world


def finish(world: World, under_way: list[tuple[Exchange, int]]) -> None:
    """Step them in turn; each client leaves after its number of effects, 9 meaning never."""
    taken: Counter[int] = Counter()
    while under_way:
        exchange, patience = under_way.pop(0)
        effect = None if taken[id(exchange)] >= patience < 9 else exchange.step()
        taken[id(exchange)] += 1
        if effect is None or getattr(effect, "how", None) == "hang":
            exchange.abandon("client gone")
            continue
        world.time += min(1.0, getattr(effect, "seconds", None) or 0.0)
        under_way.append((exchange, patience))


@settings(max_examples=120, deadline=None)
@given(policy=st.sampled_from(POLICIES), steps=st.lists(STEPS, max_size=25))
def test_random_traffic_leaves_a_journal_that_can_be_shown_to_anybody(
    policy: str, steps: list[tuple[str, int, int]]
) -> None:
    """No token of ours, no token of anybody's; two events for each operation; the same bytes when played again."""
    world = play(policy, steps)
    text = world.sink.getvalue()

    assert not TOKEN.search(text)
    assert not PART.search(text)
    assert FOREIGN not in text
    lines = [json.loads(line) for line in world.lines]
    assert [line["seq"] for line in lines] == list(range(len(lines)))
    operations: dict[int, list[str]] = {}
    for line in lines:
        if line["type"] in ("invoke", "ok", "fail", "info"):
            operations.setdefault(line["op"], []).append(line["type"])
    assert all(len(types) == 2 and types[0] == "invoke" != types[1] for types in operations.values())
    assert world.server.open == {}
    assert play(policy, steps).sink.getvalue() == text


def test_the_traffic_is_what_it_should_be() -> None:
    """A journal without a secret proves nothing where no secret was sent: these replies did hold some."""
    world = World()
    bearer, token = world.login()
    for which in range(12):
        for secret in (REAL, FOREIGN, bearer, token):
            world.run(world.begin(odd(which, secret)), Answer())
    text = world.sink.getvalue()
    assert (text.count('"unknown"') > 10, text.count('"at#1"') > 3, text.count('"rt#1"') > 3) == (True, True, True)
    assert "[an access token of " in text
    answer = world.refresh(world.server.authority.grants[-1].refresh[-1].secret)
    assert any(TOKEN.search(e.data.decode()) for e in answer.effects if isinstance(e, Piece))
