"""The Messages API and its neighbours under a bearer: replies, errors, and the headers that tell two 429s apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fake_server.faults import Fault
from fake_server.policy import SETUP_SCOPE
from fake_server.protocol.wire import Request
from tests.unit.core.harness import START, World, authorization, call

UNIFIED = "anthropic-ratelimit-unified-"
PROMPT = [{"role": "user", "content": "Reply: two words"}]


def error(answer: Any) -> tuple[int, str, str]:
    """The status, the type and the message, in the envelope that has the request's id in it."""
    body = answer.json
    assert body["type"] == "error"
    assert set(body) == {"type", "error", "request_id"}
    assert body["request_id"] == answer.header("request-id")
    return answer.status, body["error"]["type"], body["error"]["message"]


def test_a_call_is_answered_whole() -> None:
    """One piece of JSON, where no stream was asked for."""
    world = World()
    bearer, _ = world.login()
    answer = world.call(bearer, messages=PROMPT)
    body = answer.json

    assert len(answer.pieces) == 1
    assert not answer.start.streamed
    assert answer.header("content-type") == "application/json"
    assert body["content"] == [{"type": "text", "text": "two words"}]
    assert (body["model"], body["stop_reason"], body["role"], body["type"]) == ("m", "end_turn", "assistant", "message")
    assert body["usage"]["output_tokens"] == 2


def test_a_stream_leaves_in_two_pieces_with_the_name_of_each_event() -> None:
    """Between the pieces is a step of the schedule; without its ``event:`` lines a client asks again."""
    world = World()
    bearer, _ = world.login()
    answer = world.call(bearer, messages=PROMPT, stream=True)
    frames = [frame.split(b"\n") for frame in answer.body.split(b"\n\n") if frame]
    events = [json.loads(data.removeprefix(b"data: ")) for _, data in frames]

    assert answer.start.streamed
    assert len(answer.pieces) == 2
    assert answer.waits == ["request", "reply", "piece"]
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    assert [name.decode() for name, _ in frames] == [f"event: {event['type']}" for event in events]
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["content"] == []
    assert events[2]["delta"] == {"type": "text_delta", "text": "two words"}
    assert events[4]["delta"]["stop_reason"] == "end_turn"
    assert all(piece.endswith(b"\n\n") for piece in answer.pieces)


@pytest.mark.parametrize("stream", [False, True])
def test_a_200_says_how_much_is_used(stream: bool) -> None:
    """As recorded on a live subscription: fractions of 1, and resets in epoch seconds."""
    world = World()
    bearer, _ = world.login()
    answer = world.call(bearer, stream=stream)
    headers = {name.removeprefix(UNIFIED): value for name, value in answer.start.headers if name.startswith(UNIFIED)}

    assert headers == {
        "status": "allowed",
        "reset": str(int(START) + 18000),
        "representative-claim": "five_hour",
        "5h-status": "allowed",
        "5h-utilization": "0.1",
        "5h-reset": str(int(START) + 18000),
        "7d-status": "allowed",
        "7d-utilization": "0.1",
        "7d-reset": str(int(START) + 604800),
    }
    assert answer.header("retry-after") is None
    assert str(answer.header("request-id")).startswith("req_011C")


@pytest.mark.parametrize(
    ("fault", "claim", "short", "seconds"),
    [(Fault.quota(), "five_hour", "5h", 18000), (Fault.quota("seven_day"), "seven_day", "7d", 604800)],
    ids=str,
)
def test_a_quota_429_has_the_usage_headers(fault: Fault, claim: str, short: str, seconds: int) -> None:
    """Rejected, by which window, and until when."""
    world = World()
    bearer, _ = world.login()
    world.server.faults.add("call", fault)
    answer = world.call(bearer)

    assert error(answer)[:2] == (429, "rate_limit_error")
    assert answer.header(f"{UNIFIED}status") == "rejected"
    assert answer.header(f"{UNIFIED}representative-claim") == claim
    assert answer.header(f"{UNIFIED}{short}-status") == "rejected"
    assert answer.header(f"{UNIFIED}{short}-utilization") == "1.0"
    assert answer.header(f"{UNIFIED}reset") == str(int(START) + seconds)
    assert answer.header("retry-after") == str(seconds)
    assert [v for k, v in answer.start.headers if k.startswith(UNIFIED)].count("rejected") == 2


def test_a_burst_429_has_none() -> None:
    """That is what tells it from a used-up quota."""
    world = World()
    bearer, _ = world.login()
    world.server.faults.add("call", Fault.BURST)
    answer = world.call(bearer)

    message = "This request would exceed your account's rate limit. Please try again later."
    assert error(answer) == (429, "rate_limit_error", message)
    assert not [name for name in answer.header_names if name.startswith("anthropic-ratelimit") or name == "retry-after"]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("expired", "OAuth token has expired. Please obtain a new token or refresh your existing token."),
        ("revoked", "OAuth access token has been revoked."),
        ("unknown", "Invalid bearer token"),
        ("missing", "Invalid authentication credentials"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/api/oauth/profile"])
def test_a_bad_bearer_is_401_in_the_words_of_its_state(state: str, message: str, path: str) -> None:
    """And the journal has the reason, which the judge needs."""
    world = World()
    bearer: str | None = world.login()[0]
    if state == "expired":
        world.server.expire("alice")
    elif state == "revoked":
        world.server.revoke("alice")
    else:
        bearer = {"unknown": "somebody-s", "missing": None}[state]
    request = call(bearer) if path == "/v1/messages" else Request("GET", path, authorization(bearer))
    answer = world.send(request)

    assert error(answer) == (401, "authentication_error", message)
    assert world.last().get("reason") == state
    assert world.last().type == "fail"


def test_a_bearer_expires_by_the_clock() -> None:
    """Eight hours after it was issued, not before."""
    world = World()
    bearer, _ = world.login()
    world.server.advance(28799)
    assert world.call(bearer).status == 200
    world.server.advance(1)
    assert world.call(bearer).status == 401


def test_a_refresh_token_is_no_bearer() -> None:
    """It is unknown where an access token is due."""
    world = World()
    _, refresh = world.login()
    assert world.call(refresh).status == 401
    assert world.last().bearer == "unknown"


@pytest.mark.parametrize("path", ["/api/oauth/profile", "/api/oauth/usage"])
def test_a_setup_token_does_not_meet_the_scope_of_the_profile(path: str) -> None:
    """403, to be shown to the user."""
    world = World()
    bearer, _ = world.login(setup_token=True)
    answer = world.get(path, bearer)

    expected = (403, "permission_error", "OAuth token does not meet scope requirement user:profile")
    assert error(answer) == expected
    assert answer.json["error"]["details"] == {"error_visibility": "user_facing"}
    assert world.server.authority.grants[0].scope == SETUP_SCOPE


def test_a_call_needs_the_scope_of_inference() -> None:
    """In the same words."""
    world = World()
    bearer, _ = world.login(scope="user:profile")
    expected = (403, "permission_error", "OAuth token does not meet scope requirement user:inference")
    assert error(world.call(bearer)) == expected
    assert world.get("/api/oauth/profile", bearer).status == 200


def test_the_neighbours_answer_a_good_bearer() -> None:
    """The shapes that clients read right after a login."""
    world = World()
    bearer, _ = world.login()
    profile = world.get("/api/oauth/profile", bearer).json
    usage = world.get("/api/oauth/usage", bearer).json

    assert profile["account"]["email"] == "alice@fake.invalid"
    assert profile["organization"]["organization_type"] == "claude_max"
    assert usage["five_hour"] == {
        "utilization": 10.0,
        "resets_at": "2023-11-15T03:13:20+00:00",
        "limit_dollars": None,
        "used_dollars": None,
        "locked_reason": None,
    }
    assert [limit["kind"] for limit in usage["limits"]] == ["session", "weekly_all"]
    assert world.get("/v1/models", bearer).json["data"][0]["id"] == "claude-fake"
    assert world.get("/v1/messages/count_tokens", bearer, "POST").json == {"input_tokens": 8}
    assert world.get("/api/oauth/claude_cli/roles", bearer).json == {"roles": []}
    assert world.get("/api/oauth/claude_cli/client_data", bearer).json == {"client_data": {}}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/oauth/hello"), ("GET", "/api/hello"), ("HEAD", "/api/hello")]
)
def test_hello_needs_no_bearer(method: str, path: str) -> None:
    """It is what a client tries before it logs in."""
    answer = World().get(path, method=method)
    assert (answer.status, answer.json) == (200, {"message": "hello"})


@pytest.mark.parametrize(
    ("method", "path"), [("HEAD", "/"), ("GET", "/"), ("GET", "/v1/messages"), ("POST", "/v1/message"), ("PUT", "/x")]
)
@pytest.mark.parametrize("bearer", [None, "somebody-s"])
def test_anything_else_is_404_at_once(method: str, path: str, bearer: str | None) -> None:
    """JSON, without a bearer and without the latency: a client that waits for it here holds its lock meanwhile."""
    world = World(latency=60)
    answer = world.get(path, bearer, method)

    assert error(answer) == (404, "not_found_error", "Not Found")
    assert answer.header("content-type") == "application/json"
    assert world.time == START


@pytest.mark.parametrize("stream", [False, True])
def test_a_lone_surrogate_in_a_call_is_answered_all_the_same(stream: bool) -> None:
    """JSON can smuggle one in; it has no bytes."""
    world = World()
    bearer, _ = world.login()
    answer = world.call(bearer, model="\ud800", messages=[{"role": "user", "content": "Reply: \udfff"}], stream=stream)
    assert answer.status == 200
    assert b'"model":"?"' in answer.body
