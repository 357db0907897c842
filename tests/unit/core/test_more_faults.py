"""Faults that answer after the commit, in words of the user, late, or to one worker; what they can't do is refused."""

from __future__ import annotations

from typing import Any

import pytest

from fake_server.core.fault_plan import FaultPlan
from fake_server.effects import Wait
from fake_server.faults import Fault
from tests.unit.core.harness import START, World, call, refresh


def test_a_status_after_the_commit_hides_that_the_token_is_spent() -> None:
    """The service has marked the token when its next step fails: whoever tries again is a thief to it."""
    world = World()
    _, token = world.login()
    world.server.faults.add("token", Fault.status(503, retry_after=2, after_commit=True))
    answer = world.refresh(token)
    commit, end = world.events[-2:]

    assert (answer.status, answer.header("retry-after"), answer.json["type"]) == (503, "2", "error")
    assert (commit.f, commit.get("outcome")) == ("commit", "rotated")
    assert (end.type, end.status, end.get("committed"), end.get("replaced")) == ("fail", 503, True, True)
    assert world.refresh(token).status == 400


def test_a_refusal_that_is_replaced_hides_nothing() -> None:
    """The token was dead before, and there is no success that its client could not know of."""
    world = World()
    _, token = world.login()
    world.refresh(token)
    world.server.faults.add("token", Fault.status(502, after_commit=True))

    assert world.refresh(token).status == 502
    assert (world.events[-1].get("committed"), world.events[-1].get("replaced")) == (True, None)


def test_a_status_after_the_commit_takes_the_time_and_the_turn_of_its_request() -> None:
    """It fails in the service's next step, unlike one that the edge answers."""
    world = World(latency=2)
    bearer, _ = world.login()
    world.server.faults.add("call", Fault.status(500, after_commit=True))

    assert world.call(bearer).waits == ["request", "latency", "reply"]
    assert world.time == START + 2


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        ({"error": "use_dpop_nonce"}, "application/json", b'{"error":"use_dpop_nonce"}'),
        (["x"], "application/json", b'["x"]'),
        ('{"error": "refresh_token_reused"}', "application/json", b'{"error": "refresh_token_reused"}'),
        ("busy", "text/plain; charset=UTF-8", b"busy"),
        ("<h1>502</h1>", "text/html; charset=UTF-8", b"<h1>502</h1>"),
        ("", "text/plain; charset=UTF-8", b""),
    ],
)
def test_a_body_of_the_users_is_sent_as_it_is(body: object, content_type: str, sent: bytes) -> None:
    """JSON or text, with the type that fits it."""
    world = World()
    _, token = world.login()
    world.server.faults.add("token", Fault.status(400, body=body))
    answer = world.refresh(token)

    assert (answer.status, answer.header("content-type"), answer.body) == (400, content_type, sent)


def test_headers_of_the_users_are_added_or_replace_those_of_the_service() -> None:
    """Whatever their case; the body stays the service's where none is given."""
    world = World()
    _, token = world.login()
    headers = {"DPoP-Nonce": "n-1", "Content-Type": "application/problem+json", "Retry-After": "soon"}
    world.server.faults.add("token", Fault.status(429, headers=headers))
    answer = world.refresh(token)

    assert answer.header("dpop-nonce") == "n-1"
    assert answer.header("retry-after") == "soon"
    assert [value for name, value in answer.start.headers if name == "content-type"] == ["application/problem+json"]
    assert answer.header("request-id")
    assert answer.json["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("stream", [True, False])
def test_the_head_of_a_reply_is_held_back_while_the_call_is_open(stream: bool) -> None:
    """The bearer was accepted at once; no byte comes before its time."""
    world = World()
    bearer, _ = world.login()
    world.server.faults.add("call", Fault.stall(30))
    answer = world.call(bearer, stream=stream)

    assert answer.waits[:3] == ["request", "delay", "reply"]
    assert isinstance(answer.effects[1], Wait)
    assert world.time == START + 30


@pytest.mark.parametrize("target", ["stream", "call", "token"])
def test_the_rest_of_a_body_is_held_back_after_its_beginning(target: str) -> None:
    """A reply in one piece is cut in two; nothing of it is lost."""
    world = World()
    bearer, token = world.login()
    world.server.faults.add("token" if target == "token" else "call", Fault.stall(30, part="body"))
    asked = refresh(token) if target == "token" else call(bearer, stream=target == "stream")
    answer = world.run(world.begin(asked))
    kinds = [effect.why if isinstance(effect, Wait) else type(effect).__name__ for effect in answer.effects]

    assert kinds == ["request", "reply", "Start", "Piece", "delay", "piece", "Piece"]
    assert answer.start.streamed
    assert all(answer.pieces)
    assert world.time == START + 30
    if target == "token":
        assert answer.json["access_token"]


def test_a_fault_may_be_for_one_worker() -> None:
    """And for its processes; others pass it by, and don't use it up."""
    plan = FaultPlan()
    plan.add("token", Fault.RESET, count=2, worker="w1")

    assert [plan.take("token", None, actor) for actor in ("w0", "w10", "w1.2", "w1", "w1")] == [
        None,
        None,
        Fault.RESET,
        Fault.RESET,
        None,
    ]


def test_the_service_knows_whose_request_a_fault_strikes() -> None:
    """By the actor of the exchange."""
    world = World()
    bearer, _ = world.login()
    world.server.faults.add("call", Fault.status(503), worker="w1")

    assert [world.call(bearer, actor).status for actor in ("w0", "w1", "w1")] == [200, 503, 200]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (
            {"kind": "reset", "after_commit": True},
            ValueError,
            r"^Fault\(after_commit=True\): 'reset' takes no after_commit$",
        ),
        ({"kind": "lost-reply", "after_commit": True}, ValueError, "always strikes after the commit"),
        ({"kind": "timeout", "seconds": 3}, ValueError, "'timeout' takes no seconds"),
        ({"kind": "moved", "code": 500}, ValueError, "'moved' takes no code"),
        ({"kind": "html", "code": 200}, ValueError, "400 to 599"),
        ({"kind": "quota", "body": "x"}, ValueError, "takes no body"),
        ({"kind": "delay", "seconds": 1, "window": "seven_day"}, ValueError, "takes no window"),
        ({"kind": "delay", "seconds": 1, "part": "body"}, ValueError, "takes no part"),
        ({"kind": "stall", "seconds": 1, "after_commit": True}, ValueError, "takes no after_commit"),
        ({"kind": "delay"}, ValueError, "must be seconds, 0 or more"),
        ({"kind": "delay", "seconds": True}, ValueError, "must be seconds, 0 or more"),
        ({"kind": "delay", "seconds": float("inf")}, ValueError, "not infinite"),
        ({"kind": "status"}, ValueError, "must be an error status, 400 to 599"),
        ({"kind": "status", "code": 503, "seconds": -1}, ValueError, "0 or more"),
        ({"kind": "status", "code": 503, "after_commit": 1}, ValueError, "True or False"),
        ({"kind": "status", "code": 503, "body": {"a": 1}}, ValueError, r"Fault\.status\(\) also takes JSON"),
        ({"kind": "status", "code": 503, "headers": {"a": "b"}}, ValueError, r"Fault\.status\(\) takes a mapping"),
    ],
)
def test_an_argument_that_a_kind_cannot_honour_is_refused(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    """It would be taken, and not be done."""
    with pytest.raises(error, match=says):
        Fault(**arguments)


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"body": object()}, ValueError, "must be JSON, or text"),
        ({"body": float("nan")}, ValueError, "must be JSON, or text"),
        ({"body": "\ud800"}, ValueError, "must be JSON, or text"),
        ({"headers": {"a b": "c"}}, ValueError, "'a b' is not the name of a header"),
        ({"headers": {"a": "b\r\nc: d"}}, ValueError, "must be a line of text"),
        ({"headers": {"a": 1}}, ValueError, "must be a line of text"),
        ({"headers": {"Content-Length": "1"}}, ValueError, "is the connection's"),
        ({"retry_after": 1, "headers": {"retry-after": "2"}}, ValueError, "there is a retry_after already"),
    ],
)
def test_a_reply_that_cannot_be_sent_is_refused(how: dict[str, Any], error: type[Exception], says: str) -> None:
    """Not when it would strike."""
    with pytest.raises(error, match=says):
        Fault.status(400, **how)


@pytest.mark.parametrize("body", ['{"error": "Not a code"}', '{"error": 3}', "[]", "{", '{"error": "sk-ant-oat01-x"}'])
def test_only_an_error_code_is_told(body: str) -> None:
    """What else the user sends is between him and his client."""
    assert str(Fault.status(400, body=body)) == "status(400)"
    assert "sk-ant" not in repr(Fault.status(400, body=body))
