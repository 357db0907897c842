"""What the fake claude does when its refresh is refused or goes wrong, and after a 401."""

from __future__ import annotations

import io
import json
import os

import pytest

from fake_server import Fault
from tests.unit.claude.world import START, TOKEN, answer, outcome, refuse

INVALID = {"error": "invalid_grant"}


@pytest.mark.parametrize("status", [400, 401])
def test_the_loser_of_2_1_123_blanks_its_refresh_token(world, status):
    """It keeps the expired access token, tries it twice, and fails with the service's words on standard output."""
    grant = world.login()
    world.http.script[TOKEN] = [answer(status, INVALID)]
    done = world.run()
    assert (done.status, done.err) == (1, "")
    assert done.out.startswith('Failed to authenticate. API Error: 401 {"type":"error"')
    assert world.stored()["refreshToken"] == ""
    assert world.stored()["accessToken"] == grant.access[0].secret
    assert len(world.http.calls()) == 2
    assert world.naps == [0.562]
    assert world.events()[3:6] == [
        "token_refresh_failure",
        "refresh_token_marked_dead_invalid_grant",
        "refresh_token_cleared_on_disk",
    ]


def test_the_loser_of_2_1_330_blanks_everything_and_calls_nobody(make_world):
    """The session has expired, for this process and for the next."""
    world = make_world("2.1.330")
    world.login(subscriptionType="max")
    world.http.script[TOKEN] = [answer(400, {"error": {"type": "invalid_grant"}})]
    done = world.run()
    assert (done.status, done.out) == (
        1,
        "Failed to authenticate: OAuth session expired and could not be refreshed\n",
    )
    stored = world.stored()
    assert (stored["accessToken"], stored["refreshToken"], stored["expiresAt"]) == ("", "", 0)
    assert stored["subscriptionType"] == "max"
    assert world.http.calls() == []
    assert world.run().out == "Not logged in · Please run /login\n"


def test_the_loser_of_1_0_leaves_the_store_and_asks_again_before_each_attempt(make_world):
    """Ten retries with the dead token, and one for the quota probe."""
    world = make_world("1.0")
    world.login()
    before = world.stored()
    world.server.authority.redeem(before["refreshToken"], world.now())
    assert world.run().status == 1
    assert world.stored() == before
    assert outcome(world) == [400] * 12
    assert len(world.http.calls()) == 12


def test_a_loser_whose_store_was_written_meanwhile_goes_on_with_that(any_world):
    """The race is recovered: the directory is shared although the locks are not, and the exit status is 0."""
    any_world.login()

    def winner(asked):
        done = any_world.server.authority.redeem(asked.json["refresh_token"], any_world.now())
        entry = {**any_world.stored(), "accessToken": done.access.secret, "refreshToken": done.refresh.secret}
        any_world.put({"claudeAiOauth": {**entry, "expiresAt": (START + 28800) * 1000}})

    any_world.http.script[TOKEN] = [winner]
    assert any_world.run().out == "A\n"
    assert outcome(any_world) == [400]
    assert "token_refresh_race_recovered" in any_world.events()


def test_a_loser_does_not_blank_a_store_that_is_not_its_own_any_more(make_world):
    """The scrub is guarded by the refresh token that was sent."""
    for dialect in ("2.1.123", "2.1.330"):
        world = make_world(dialect)
        world.login()

        def other_refresh_token(asked, world=world):
            world.put({"claudeAiOauth": {**world.stored(), "refreshToken": "another"}})

        world.http.script[TOKEN] = [other_refresh_token]
        grant = world.server.authority.grants[0]
        world.server.authority.redeem(grant.refresh[0].secret, world.now())
        world.run(CLAUDE_CODE_MAX_RETRIES="0")
        first_dance = world.events()[: world.events().index("token_refresh_lock_released")]
        assert "refresh_token_marked_dead_invalid_grant" in first_dance
        assert "refresh_token_cleared_on_disk" not in first_dance
        assert [post.json["refresh_token"] for post in world.http.posts()][1] == "another"


def test_a_loser_that_cannot_write_blanks_nothing(world, monkeypatch):
    """A scrub that fails is no second failure."""
    world.login()
    world.http.script[TOKEN] = [answer(400, INVALID)]
    monkeypatch.setattr("pytest_claude_tokens.claude.store.os.rename", refuse("", None))
    assert world.run().status == 1
    assert world.stored()["refreshToken"] != ""
    assert "refresh_token_cleared_on_disk" not in world.events()


def test_a_login_that_was_removed_meanwhile_stays_removed(world):
    """The loser writes no store where there is none any more."""
    world.login()

    def logout(asked):
        (world.config / ".credentials.json").unlink()
        return answer(400, INVALID)(asked)

    world.http.script[TOKEN] = [logout]
    assert world.run().out == "Not logged in · Please run /login\n"
    assert not (world.config / ".credentials.json").exists()


@pytest.mark.parametrize(
    ("dialect", "posts"), [("2.1.123", 5), ("2.1.330", 6), ("1.0", 4)], ids=["2.1.123", "2.1.330", "1.0"]
)
@pytest.mark.parametrize(
    "failure", [Fault.status(500), Fault.status(429), Fault.status(403), Fault.RESET, Fault.html()]
)
def test_any_other_failure_is_tried_again_with_the_same_refresh_token(make_world, dialect, posts, failure):
    """Five or six requests in one run, no pause of their own, the store untouched."""
    world = make_world(dialect)
    grant = world.login()
    world.server.faults.add("token", failure, count=99)
    before = world.stored()
    assert world.run(CLAUDE_CODE_MAX_RETRIES="2").status == 1
    assert [post.json["refresh_token"] for post in world.http.posts()] == [grant.refresh[0].secret] * posts
    assert world.stored() == before


def test_an_answer_that_is_no_answer_is_a_failure(world):
    """200 without an access token, and bodies that are no JSON objects."""
    for body in (b"", b"[]", b'"x"', {"access_token": ""}):
        world.login()
        world.http.script[TOKEN] = [answer(200, body)] * 5
        assert world.run(CLAUDE_CODE_MAX_RETRIES="2").status == 1


@pytest.mark.parametrize(("dialect", "seconds"), [("2.1.123", 15.0), ("2.1.330", 30.0)])
def test_a_token_request_is_given_up_after_the_releases_time(make_world, dialect, seconds):
    """The time-out is the release's own, or the one that the variable gives."""
    world = make_world(dialect)
    world.login()
    world.run()
    world.login()
    world.run(CLAUDE_TOKENS_TOKEN_TIMEOUT="0.5")
    assert [post.timeout for post in world.http.posts()] == [seconds, 0.5]


def test_a_lost_answer_burns_the_refresh_token(world):
    """The service has rotated, the client asks again with the spent token, and blanks its store."""
    world.login()
    world.server.faults.add("token", Fault.LOST_REPLY)
    assert world.run().status == 1
    assert outcome(world) == [None, 400]
    assert world.stored()["refreshToken"] == ""


# After a 401.


def test_an_early_revocation_costs_one_refresh(any_world):
    """A 401 on a token whose time has not come: one forced refresh, and the call succeeds."""
    any_world.login(expires=(START + 28800) * 1000)
    any_world.server.expire("alice")
    assert any_world.run().out == "A\n"
    assert outcome(any_world) == [200]


def test_after_a_401_the_store_is_looked_at_first(world):
    """Somebody else has already refreshed: no request of our own."""
    world.login(expires=(START + 28800) * 1000)

    def sibling(asked):
        world.server.expire("alice")
        grant = world.server.authority.grants[0]
        done = world.server.authority.redeem(grant.refresh[0].secret, world.now())
        entry = {**world.stored(), "accessToken": done.access.secret, "refreshToken": done.refresh.secret}
        world.put({"claudeAiOauth": entry})

    world.http.script["/v1/messages"] = [sibling]
    assert world.run().out == "A\n"
    assert world.http.posts() == []
    assert world.events() == ["401_recovered_from_disk"]


@pytest.mark.parametrize(("dialect", "posts", "bearers"), [("2.1.123", 2, 3), ("2.1.330", 1, 2)])
def test_a_service_that_always_says_401_is_asked_three_times(make_world, dialect, posts, bearers):
    """2.1.123 refreshes before each retry; 2.1.330 does not refresh what it has just minted."""
    world = make_world(dialect)
    world.login(expires=(START + 28800) * 1000)
    world.http.script["/v1/messages"] = [answer(401, {"error": {"message": "no"}})] * 3
    assert world.run(CLAUDE_CODE_MAX_RETRIES="2").status == 1
    assert len(world.http.posts()) == posts
    assert len({call.headers["authorization"] for call in world.http.calls()}) == bearers
    assert len(world.http.calls()) == 3


def test_a_stuck_lock_after_a_401_ends_2_1_330(make_world):
    """The forced refresh fails as the first would have."""
    world = make_world("2.1.330")
    world.login(expires=(START + 28800) * 1000)
    world.server.expire("alice")
    (world.config / ".oauth_refresh.lock").mkdir()
    os.utime(world.config / ".oauth_refresh.lock", (START + 60, START + 60))
    assert world.run().out.startswith("Failed to refresh OAuth token")


def test_a_lock_that_gets_stuck_after_the_start_ends_2_1_330(make_world):
    """The attempt of a later turn meets it, too."""
    world = make_world("2.1.330")
    world.login(expires=(START + 28800) * 1000)
    lock = world.config / ".oauth_refresh.lock"

    def later(asked):
        world.seconds += 30000
        lock.mkdir()
        os.utime(lock, (world.now() + 60, world.now() + 60))

    world.http.script["/v1/messages"] = [later]
    turn = json.dumps({"type": "user", "message": {"role": "user", "content": "Reply: A"}})
    done = world.run("-p", "--input-format", "stream-json", stdin=io.StringIO(f"{turn}\n{turn}\n"))
    assert done.out.splitlines()[1].startswith("Failed to refresh OAuth token")
