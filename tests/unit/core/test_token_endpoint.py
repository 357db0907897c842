"""The token endpoint's replies, byte for byte where the public record has them."""

from __future__ import annotations

from typing import Any

import pytest

from fake_server.policy import SCOPE, SETUP_SCOPE
from fake_server.protocol.wire import Request
from tests.unit.core.harness import JSON, START, World, code, token_request

SPENT = b'{"error": "invalid_grant", "error_description": "Refresh token not found or invalid"}'
EXPIRED = b'{"error": "invalid_grant", "error_description": "Refresh token expired"}'
REVOKED = b'{"error": "invalid_grant", "error_description": "Refresh token revoked"}'
MALFORMED = b'{"type":"error","error":{"type":"invalid_request_error","message":"Invalid request format"}}'


def test_the_recorded_lengths() -> None:
    """Reports quote 85 and 72 bytes."""
    assert [len(body) for body in (SPENT, EXPIRED, REVOKED)] == [85, 72, 72]


@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
def test_a_refresh_gives_a_new_pair(form: bool) -> None:
    """RFC 6749 section 5.1 with the vendor's account and organization, not to be stored."""
    world = World()
    _, old = world.login()
    answer = world.refresh(old, form=form)
    grant = world.server.authority.grants[0]

    assert answer.status == 200
    assert answer.json == {
        "token_type": "Bearer",
        "access_token": grant.access[1].secret,
        "expires_in": 28800,
        "refresh_token": grant.refresh[1].secret,
        "scope": SCOPE,
        "organization": {"uuid": answer.json["organization"]["uuid"], "name": "alice's organization"},
        "account": {"uuid": answer.json["account"]["uuid"], "email_address": "alice@fake.invalid"},
    }
    assert answer.header("content-type") == "application/json"
    assert (answer.header("cache-control"), answer.header("pragma")) == ("no-store", "no-cache")
    assert world.call(answer.json["access_token"]).status == 200


def test_the_loser_of_a_race_reads_85_bytes() -> None:
    """A spent refresh token and one that nobody knows are told apart by nothing."""
    world = World()
    _, old = world.login()
    world.refresh(old)

    for token in (old, "sk-ant-ort01-somebody-s"):
        answer = world.refresh(token)
        assert (answer.status, answer.body) == (400, SPENT)
        assert answer.header("cache-control") == "no-store"
        assert answer.header("content-type") == "application/json"


def test_an_expired_or_revoked_refresh_token_reads_72_bytes() -> None:
    """And each says which."""
    world = World(refresh_expires_in=100)
    _, first = world.login("alice")
    _, second = world.login("bob")
    world.server.revoke("bob")
    assert (world.refresh(second).status, world.last().status) == (400, 400)
    assert world.refresh(second).body == REVOKED
    world.server.advance(100)
    assert world.refresh(first).body == EXPIRED


def test_after_reuse_detection_the_successor_reads_revoked() -> None:
    """Under a policy that revokes the family; the reuse itself still reads 85 bytes."""
    world = World("anthropic-harsh")
    bearer, old = world.login()
    new = world.refresh(old).json["refresh_token"]

    assert world.refresh(old).body == SPENT
    assert world.refresh(new).body == REVOKED
    assert world.call(bearer).json["error"]["message"] == "OAuth access token has been revoked."


def test_a_gateway_answers_401_and_nothing_more() -> None:
    """Whatever the reason; a success is as anywhere."""
    world = World("gateway")
    _, old = world.login()
    assert world.refresh(old, form=True).status == 200

    world.server.revoke("alice")
    for token in (old, "unknown"):
        answer = world.refresh(token, form=True)
        assert (answer.status, answer.body) == (401, b'{"error":"invalid_grant"}')
        assert answer.header("cache-control") == "no-store"


def test_without_rotation_the_reply_omits_the_refresh_token() -> None:
    """The same one stays good, and only the access token is new."""
    world = World("no-rotation")
    _, token = world.login()
    bodies = [world.refresh(token).json for _ in range(2)]

    assert all("refresh_token" not in body for body in bodies)
    assert bodies[0]["access_token"] != bodies[1]["access_token"]


def test_an_idempotent_replay_tells_the_time_that_is_left() -> None:
    """The same pair again, so its access token is older: whole seconds, none below zero."""
    world = World("grace", grace_mode="idempotent", expires_in=20)
    _, old = world.login()
    first = world.refresh(old).json
    assert first["expires_in"] == 20
    world.time += 7.25
    second = world.refresh(old).json
    assert {**second, "expires_in": 20} == first
    assert second["expires_in"] == 12
    world.time += 17
    assert world.refresh(old).json["expires_in"] == 0


def test_a_sibling_replay_has_its_whole_life() -> None:
    """Its pair is new, whatever fraction of a second it is now."""
    world = World("grace")
    _, old = world.login()
    world.time += 0.123456
    world.refresh(old)
    world.time += 0.1
    assert world.refresh(old).json["expires_in"] == 28800


def test_a_scope_is_echoed_else_that_of_the_grant() -> None:
    """RFC 6749 sections 5.1 and 6."""
    world = World()
    _, token = world.login(scope="user:inference user:profile")
    narrow = world.refresh(token, scope="user:inference").json
    assert narrow["scope"] == "user:inference"
    assert world.refresh(narrow["refresh_token"]).json["scope"] == "user:inference user:profile"


@pytest.mark.parametrize("scope", ["org:create_api_key user:inference", 'user:"x"'])
def test_an_invalid_scope_leaves_the_refresh_token_unspent(scope: str) -> None:
    """Clients try again without it."""
    world = World(scopes=frozenset(SCOPE.split()))
    _, token = world.login()
    answer = world.refresh(token, scope=scope)

    assert (answer.status, answer.body) == (400, b'{"error":"invalid_scope"}')
    assert not [event for event in world.events if event.f == "commit"]
    assert world.refresh(token, scope="user:inference").status == 200


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({"client_id": ""}, b'{"error":"invalid_client"}'),
        ({"client_id": None}, b'{"error":"invalid_client"}'),
        ({"grant_type": "password"}, b'{"error":"unsupported_grant_type"}'),
        ({"grant_type": None}, MALFORMED),
        ({"client_id": 7}, MALFORMED),
        ({"expires_in": "soon"}, MALFORMED),
    ],
    ids=str,
)
def test_a_refused_form_is_400_and_changes_nothing(changes: dict[str, Any], body: bytes) -> None:
    """JSON, and the refresh token is still good."""
    world = World()
    _, token = world.login()
    answer = world.refresh(token, **changes)

    assert (answer.status, answer.body) == (400, body)
    assert answer.header("content-type") == "application/json"
    assert world.last().refresh == "rt#1"
    assert world.refresh(token).status == 200


def test_any_client_that_says_who_it_is_will_do() -> None:
    """The id can be configured in the real client, so no id is wrong."""
    world = World()
    _, token = world.login()
    assert world.refresh(token, client_id="x").status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a":1,"a":2}', b"\xff"])
def test_a_body_that_cannot_be_read_is_400_json(body: bytes) -> None:
    """In the vendor's words."""
    answer = World().send(token_request(body))
    assert (answer.status, answer.body, answer.header("content-type")) == (400, MALFORMED, "application/json")


def test_a_code_logs_in_once() -> None:
    """A login says when its refresh token will end; a refresh doesn't."""
    world = World(expires_in=60.5, refresh_expires_in=1000)
    answer = world.send(code("alice#1"))
    again = world.send(code("alice#1"))
    other = world.send(code("alice#2"))

    assert answer.status == other.status == 200
    assert (answer.json["expires_in"], answer.json["refresh_token_expires_in"]) == (60.5, 1000)
    assert answer.json["scope"] == SCOPE
    assert answer.header("cache-control") == "no-store"
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert [grant.account for grant in world.server.authority.grants] == ["alice", "alice"]
    refreshed = world.refresh(answer.json["refresh_token"]).json
    assert "refresh_token_expires_in" not in refreshed


def test_a_code_that_names_nobody_is_refused() -> None:
    """And never told by the journal: it may be a real one."""
    world = World()
    answer = world.send(code("Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFy#state"))

    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    assert world.server.authority.grants == []
    assert "Zm9v" not in world.sink.getvalue()


def test_an_invalid_scope_leaves_the_code_unused() -> None:
    """A login can be tried again with another one, too."""
    world = World(scopes=frozenset({"user:inference"}))
    assert world.send(code("alice", scope="user:profile user:inference")).json == {"error": "invalid_scope"}
    assert world.send(code("alice", scope="user:inference")).status == 200


@pytest.mark.parametrize("asked", [{"expires_in": 31536000}, {"scope": SETUP_SCOPE}], ids=str)
def test_a_setup_token_has_no_refresh_token(asked: dict[str, Any]) -> None:
    """One year, for inference only, known by the life or the scope that is asked for."""
    world = World()
    answer = world.send(code("ci", **asked))
    body = answer.json

    assert answer.status == 200
    assert (body["expires_in"], body["scope"]) == (31536000, "user:inference")
    assert not {"refresh_token", "refresh_token_expires_in"} & set(body)
    (note,) = (event for event in world.events if event.f == "login")
    assert note.get("setup_token") is True
    assert note.issued == {"access": "at#1", "refresh": None}
    assert world.last().issued == {"access": "at#1", "refresh": None}
    assert world.call(body["access_token"]).status == 200


def test_a_login_is_noted_with_its_operation() -> None:
    """When its access token ends, and what is accepted from now on."""
    world = World()
    world.time += 5
    world.send(code("alice"), "w3")
    invoke, note, end = world.events

    assert (invoke.type, invoke.get("grant_type"), invoke.grant) == ("invoke", "authorization_code", None)
    assert (note.type, note.f, note.op, note.actor) == ("note", "login", invoke.op, "w3")
    assert (note.get("expires"), note.get("accepts"), note.get("setup_token")) == (28805.0, ["rt#1"], False)
    assert (end.type, end.account, end.grant) == ("ok", "alice", "g#1")
    assert world.server.journal.time(START + 1) == 1.0


@pytest.mark.parametrize("known", [True, False])
def test_a_log_out_is_200_for_any_token(known: bool) -> None:
    """RFC 7009 section 2.2; a known one takes its grant along."""
    world = World()
    bearer, token = world.login()
    body = {"token": token if known else "somebody-s"}
    assert world.send(token_request(body, path="/v1/oauth/token/revoke")).json == {}

    assert world.call(bearer).status == (401 if known else 200)
    revocations = [event for event in world.events if event.f == "revoke"]
    assert [event.get("ended") for event in revocations] == ([["rt#1", "at#1"]] if known else [])


def test_a_request_id_is_stable_and_never_twice_the_same() -> None:
    """``req_011C`` and twenty characters; another service has other ones."""

    def ids(namespace: str) -> list[str | None]:
        world = World(namespace=namespace)
        return [world.send(Request("POST", "/v1/oauth/token", JSON, b"{}")).header("request-id") for _ in range(3)]

    first = ids("a")
    assert first == ids("a")
    assert len({*first, *ids("b")}) == 6
    assert all(one and one.startswith("req_011C") and len(one) == 28 for one in first)
