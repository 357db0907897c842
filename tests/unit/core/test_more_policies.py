"""Knobs of a policy: what a refresh ends, what its reply repeats, a deadline that slides, and two requests at once."""

from __future__ import annotations

from typing import Any

import pytest

from fake_server.policy import Policy
from tests.unit.core.harness import START, World, refresh

NO_ROTATION = Policy(name="no-rotation", rotate=False)


@pytest.mark.parametrize("policy", [Policy(), NO_ROTATION, Policy.grace(30)])
def test_a_refresh_may_end_the_access_tokens_before_it(policy: Policy) -> None:
    """Those of its grant, which live on by default; the history says which."""
    for revokes in (False, True):
        world = World(policy.but(revoke_access=revokes))
        bearer, token = world.login()
        new = world.refresh(token).json["access_token"]
        (commit,) = (event for event in world.events if event.f == "commit")

        assert world.call(bearer).status == (401 if revokes else 200)
        assert world.call(new).status == 200
        assert commit.get("superseded") == (["at#1"] if revokes else None)


def test_another_grant_of_the_account_keeps_its_access_tokens() -> None:
    """Each login has tokens of its own."""
    world = World(revoke_access=True)
    bearer, _ = world.login()
    other = world.server.grant("alice")
    world.refresh(other.refresh[0].secret)

    assert world.call(bearer).status == 200


@pytest.mark.parametrize("repeats", [False, True])
def test_without_rotation_the_reply_may_repeat_the_refresh_token(repeats: bool) -> None:
    """RFC 6749 section 6 leaves it to the service: a client keeps the old one, or stores it once more."""
    world = World(NO_ROTATION.but(repeat_refresh=repeats))
    _, token = world.login()
    reply = world.refresh(token).json

    assert reply.get("refresh_token") == (token if repeats else None)
    assert (world.events[-1].issued or {})["refresh"] == ("rt#1" if repeats else None)
    assert world.refresh(token).status == 200


@pytest.mark.parametrize("policy", [Policy(), NO_ROTATION])
@pytest.mark.parametrize("slides", [False, True])
def test_a_deadline_may_slide_with_use(policy: Policy, slides: bool) -> None:
    """Whoever refreshes in time goes on for ever, and each reply says how long the next pause may be."""
    world = World(policy.but(refresh_expires_in=100, refresh_slides=slides))
    _, token = world.login()
    for seconds in (60, 120):
        world.time = START + seconds
        answer = world.refresh(token)
        if answer.status == 200:
            assert answer.json.get("refresh_token_expires_in") == (100 if slides else None)
            token = answer.json.get("refresh_token", token)

    assert answer.status == (200 if slides else 400)
    world.time = START + 221
    assert world.refresh(token).status == 400


AT_ONCE = Policy(name="at-once", at_once="retry", reuse="revoke-family")


def test_one_of_two_at_once_is_asked_to_retry_and_nothing_happens() -> None:
    """Both had arrived before one was committed: a conflict of two transactions, not a reuse."""
    world = World(AT_ONCE)
    _, token = world.login()
    first, second = world.begin(refresh(token)), world.begin(refresh(token), "w1")
    first.step()
    second.step()
    won, lost = world.run(first), world.run(second)
    outcomes = [event.get("outcome") for event in world.events if event.f == "commit"]

    assert (won.status, lost.status, outcomes) == (200, 400, ["rotated", "retry"])
    assert lost.json["error"] == "invalid_request"
    assert "retry" in lost.json["error_description"]
    assert world.refresh(won.json["refresh_token"]).status == 200


def test_who_comes_after_the_first_was_committed_has_reused_it() -> None:
    """Also if the first reply is still on its way."""
    world = World(AT_ONCE)
    _, token = world.login()
    first = world.begin(refresh(token))
    while not any(event.f == "commit" for event in world.events):
        first.step()
    late = world.refresh(token)

    assert (late.status, late.json["error"]) == (400, "invalid_grant")
    assert world.events[-1].error in (None, "invalid_grant")


def test_by_default_two_at_once_are_one_and_a_reuse() -> None:
    """As with most services."""
    world = World(AT_ONCE.but(at_once="reuse"))
    _, token = world.login()
    first, second = world.begin(refresh(token)), world.begin(refresh(token), "w1")
    world.run(first)

    assert world.run(second).json["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"repeat_refresh": True}, "needs rotate=False"),
        ({"rotate": False, "at_once": "retry"}, "needs rotate=True"),
        ({"at_once": "wait"}, "choose one of 'reuse', 'retry'"),
        ({"refresh_slides": 1}, "must be True or False"),
        ({"revoke_access": None}, "must be True or False"),
    ],
)
def test_a_knob_that_could_not_turn_is_refused(changes: dict[str, Any], says: str) -> None:
    """It would be taken, and not be done."""
    with pytest.raises(ValueError, match=says):
        Policy().but(**changes)
