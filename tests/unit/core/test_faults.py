"""What goes wrong on purpose: which faults commit, what the client sees, and what the journal says."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis.vendor.pretty import pretty

from fake_server import Fault as Exported
from fake_server.core.fault_plan import FaultPlan
from fake_server.effects import Break, Start
from fake_server.faults import Fault
from tests.unit.core.harness import START, World, call, refresh

RATE_LIMITED = b'{"error":{"type":"rate_limit_error","message":"Rate limited. Please try again later."}}'
MOVED = b'{"type":"error","error":{"type":"not_found_error","message":"Not Found"}}'

# fault, its text, committed, how the operation ends, what it ends with
FAULTS = [
    (Fault.LOST_REPLY, "lost-reply", True, "info", "lost-reply"),
    (Fault.RESET, "reset", False, "info", "connection reset"),
    (Fault.TIMEOUT, "timeout", False, "info", "client gave up"),
    (Fault.GARBAGE, "garbage", True, "info", "garbage"),
    (Fault.TRUNCATED, "truncated", True, "info", "truncated"),
    (Fault.BURST, "burst", False, "fail", 429),
    (Fault.status(503), "status(503)", False, "fail", 503),
    (Fault.status(429, retry_after=2.5), "status(429)", False, "fail", 429),
    (Fault.status(503, after_commit=True), "status(503, after_commit)", True, "fail", 503),
    (Fault.status(400, body={"error": "use_dpop_nonce"}), "status(400 use_dpop_nonce)", False, "fail", 400),
    (Fault.stall(3), "stall(3, head)", True, "ok", 200),
    (Fault.stall(3, part="body"), "stall(3, body)", True, "ok", 200),
    (Fault.delay(7), "delay(7)", True, "ok", 200),
    (Fault.delay(0.5, after_commit=True), "delay(0.5, after_commit)", True, "ok", 200),
    (Fault.quota(), "quota(five_hour)", False, "fail", 429),
    (Fault.quota("seven_day"), "quota(seven_day)", False, "fail", 429),
    (Fault.html(), "html", False, "fail", 403),
    (Fault.html(502), "html", False, "fail", 502),
    (Fault.moved(), "moved", False, "fail", 404),
]


WRONG: Any = "two_hour"


def ids(value: object) -> str | None:
    return repr(str(value)) if isinstance(value, Fault) else None


def test_hypothesis_prints_a_fault_in_a_few_words() -> None:
    """One line for each of its fields, and none for the constants of the class."""
    assert len(pretty(Fault.LOST_REPLY)) < 150
    assert "RESET" not in pretty(Fault.status(503))


@pytest.mark.parametrize("expected", FAULTS, ids=lambda expected: repr(str(expected[0])))
@pytest.mark.parametrize("target", ["token", "call"])
def test_a_fault_commits_or_does_not_and_ends_as_it_says(
    expected: tuple[Fault, str, bool, str, object], target: Literal["token", "call"]
) -> None:
    """Two events, the second with the fault's text; the refresh token is spent exactly where it commits."""
    fault, text, committed, end, says = expected
    world = World()
    bearer, token = world.login()
    world.server.faults.add(target, fault)
    exchange = world.begin(refresh(token)) if target == "token" else world.begin(call(bearer))
    world.run(exchange)
    if fault is Fault.TIMEOUT:
        exchange.abandon("client gave up")
    invoke, last = [event for event in world.of(exchange.op) if event.type != "note"]

    assert (invoke.type, invoke.f, invoke.get("fault")) == ("invoke", target, None)
    assert (last.type, last.get("fault"), last.get("committed", False)) == (end, text, committed)
    assert (last.error, last.status) == ((says, None) if end == "info" else (None, says))
    assert fault.commits is ((committed and fault.kind != "delay") or fault.after_commit)
    assert exchange.step() is None
    assert world.server.open == {}
    if target == "token":
        outcomes = [event.get("outcome") for event in world.of(exchange.op) if event.f == "commit"]
        assert outcomes == (["rotated"] if committed else [])
        assert world.refresh(token).status == (400 if committed else 200)
    else:
        assert world.call(bearer).status == 200
    assert world.last().get("fault") is None


def test_each_break_is_told_to_the_transport_in_its_own_way() -> None:
    """What was or would have been sent comes along, so that it can be cut."""
    world = World()
    bearer, _ = world.login()
    whole = world.call(bearer, stream=True)
    seen = {}
    for fault in (Fault.LOST_REPLY, Fault.RESET, Fault.TIMEOUT, Fault.GARBAGE, Fault.TRUNCATED):
        world.server.faults.add("call", fault)
        exchange = world.begin(call(bearer))
        broke = world.run(exchange).broke
        assert broke
        exchange.abandon("over")
        seen[fault.kind] = broke

    assert [broke.how for broke in seen.values()] == ["lost", "reset", "hang", "garbage", "truncated"]
    assert (seen["reset"], seen["timeout"]) == (Break("reset"), Break("hang"))
    assert not seen["garbage"].data.startswith(b"HTTP")
    cut = seen["truncated"]
    assert isinstance(cut.start, Start)
    assert cut.start.status == whole.status
    assert 0 < len(cut.data) < len(world.call(bearer).body)


@pytest.mark.parametrize(
    "fault", [Fault.RESET, Fault.LOST_REPLY, Fault.GARBAGE, Fault.TRUNCATED, Fault.TIMEOUT], ids=ids
)
def test_nothing_follows_a_break(fault: Fault) -> None:
    """A transport that goes on stepping gets no reply, and nothing is committed by that."""
    world = World()
    _, token = world.login()
    world.server.faults.add("token", fault)
    exchange = world.begin(refresh(token))
    answer = world.run(exchange)
    world.run(exchange)

    assert answer.pieces == []
    assert not [effect for effect in answer.effects if isinstance(effect, Start)]
    assert [event.type for event in world.of(exchange.op) if event.type != "note"] == ["invoke", "info"]
    assert world.last().error == {"reset": "connection reset"}.get(fault.kind, fault.kind)
    assert world.refresh(token).status == (400 if fault.commits else 200)


@pytest.mark.parametrize("after", [False, True])
def test_a_delay_lies_before_the_commit_or_after_it(after: bool) -> None:
    """With the latency before it, in either case."""
    world = World(latency=2)
    _, token = world.login()
    world.server.faults.add("token", Fault.delay(5, after_commit=after))
    answer = world.refresh(token)
    (commit,) = (event for event in world.events if event.f == "commit")

    assert answer.waits == ["request", "latency", "delay", "reply"]
    assert commit.t == (2 if after else 7)
    assert world.time == START + 7


def test_a_fault_that_answers_takes_no_time_and_no_turn() -> None:
    """It strikes at the edge, before the queue."""
    world = World(latency=2)
    bearer, _ = world.login()
    serving = world.begin(call(bearer))
    serving.step()
    serving.step()
    world.server.faults.add("call", Fault.status(529))
    answer = world.call(bearer, "w1")

    assert (answer.waits, answer.status) == (["request", "reply"], 529)
    assert answer.json["error"] == {"type": "overloaded_error", "message": "Overloaded"}


@pytest.mark.parametrize(
    ("fault", "body", "retry_after"),
    [
        (Fault.BURST, RATE_LIMITED, None),
        (Fault.status(429), RATE_LIMITED, None),
        (Fault.status(429, retry_after=60), RATE_LIMITED, "60"),
        (Fault.moved(), MOVED, None),
    ],
    ids=ids,
)
def test_the_token_endpoint_has_envelopes_of_its_own(fault: Fault, body: bytes, retry_after: str | None) -> None:
    """429 without the outer ``type``, 404 without the request's id in it."""
    world = World()
    _, token = world.login()
    world.server.faults.add("token", fault)
    answer = world.refresh(token)
    assert (answer.body, answer.header("retry-after")) == (body, retry_after)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (400, "invalid_request_error", "Invalid request format"),
        (403, "permission_error", "Invalid request format"),
        (413, "request_too_large", "Invalid request format"),
        (418, "invalid_request_error", "Invalid request format"),
        (500, "api_error", "Internal server error"),
        (503, "api_error", "Internal server error"),
        (529, "overloaded_error", "Overloaded"),
    ],
)
def test_a_status_has_the_type_that_belongs_to_it(code: int, kind: str, message: str) -> None:
    """In the envelope of the Messages API, with ``Retry-After`` where asked for."""
    world = World()
    bearer, _ = world.login()
    world.server.faults.add("call", Fault.status(code, retry_after=1.5))
    answer = world.call(bearer)
    assert answer.json["error"] == {"type": kind, "message": message}
    assert answer.header("retry-after") == "1.5"


def test_a_challenge_page_is_no_json() -> None:
    """And has no request id: the service has never seen the request."""
    world = World()
    _, token = world.login()
    world.server.faults.add("token", Fault.html())
    answer = world.refresh(token)
    assert answer.header("content-type") == "text/html; charset=UTF-8"
    assert answer.header("request-id") is None
    assert answer.body.startswith(b"<!DOCTYPE html>")


def test_faults_come_in_order_for_whom_they_were_asked() -> None:
    """By kind and account, so many times, after so many that go well."""
    plan = FaultPlan()
    plan.add("token", Fault.RESET, count=2, account="alice")
    plan.add("token", Fault.BURST, skip=1)
    plan.add("call", Fault.TIMEOUT)

    assert plan.take("other", None) is None
    assert plan.take("token", None) is None  # skipped
    assert plan.take("token", "alice") is Fault.RESET
    assert plan.take("call", "bob") is Fault.TIMEOUT
    assert plan.take("call", "bob") is None
    assert plan.take("token", "alice") is Fault.RESET
    assert plan.take("token", "alice") is Fault.BURST
    assert plan.take("token", "alice") is None


def test_a_malformed_token_request_meets_a_fault_too() -> None:
    """It is a token request like any other."""
    world = World()
    world.server.faults.add("token", Fault.status(503))
    assert world.refresh("x", client_id="").status == 503


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: Fault.status(200), "must be an error status, 400 to 599"),
        (lambda: Fault.status(600), "must be an error status, 400 to 599"),
        (lambda: Fault.delay(-1), "seconds, 0 or more"),
        (lambda: Fault.quota(WRONG), "five_hour or seven_day"),
        (lambda: FaultPlan().add(WRONG, Fault.RESET), 'a "token" or a "call" request'),
        (lambda: FaultPlan().add("call", Fault.RESET, count=0), "1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(attempt, message: str) -> None:
    """Not when it would strike."""
    with pytest.raises(ValueError, match=message):
        attempt()


def test_faults_are_values() -> None:
    """Two that are alike are equal, and can be keys."""
    assert Exported is Fault
    assert Fault.status(503) == Fault.status(503) != Fault.status(502)
    assert len({Fault.delay(1), Fault.delay(1.0), Fault.delay(1, after_commit=True)}) == 2


@pytest.mark.parametrize(("code", "expired", "reason"), [(401, True, "expired"), (401, False, None), (503, True, None)])
def test_an_injected_401_tells_the_truth_where_the_bearer_is_over(code: int, expired: bool, reason: str | None) -> None:
    """A 401 of ours on a bearer that really has expired counts as the service's own; on a live one it doesn't."""
    world = World()
    grant = world.server.login("a", expired=expired)
    world.server.faults.add("call", Fault.status(code))
    world.call(grant.access[0].secret)

    assert world.server.journal.events[-1].get("reason") == reason


def test_an_injected_401_without_a_bearer_has_no_reason() -> None:
    """Nothing was presented, so nothing is over."""
    world = World()
    world.server.faults.add("token", Fault.status(401))
    grant = world.server.login("a")
    world.refresh(grant.refresh[0].secret)

    assert world.server.journal.events[-1].get("reason") is None
