"""The refresh dance, move by move, in each dialect; other processes step in at chosen moments."""

from __future__ import annotations

import errno
import io
import json
import os
import stat

import pytest

from fake_server import Fault, Policy
from pytest_claude_tokens.claude.process import Terminated
from tests.unit.claude.world import START, answer

TOKEN = "/v1/oauth/token"
PROFILE = "/api/oauth/profile"
RESOLVED = ["token_refresh_lock_race_resolved", "token_refresh_race_resolved"]
INVALID = {"error": "invalid_grant"}


def outcome(world):
    """What the service said to each token request."""
    return [event.status for event in world.server.journal.events if event.f == "token" and event.type != "invoke"]


# The plain case.


def test_an_expired_login_is_refreshed_once_and_used(any_world):
    """One token request, its answer stored in milliseconds with mode 0600, the call made with it, no lock left."""
    any_world.login()
    assert any_world.run().out == "A\n"
    assert outcome(any_world) == [200]
    stored = any_world.stored()
    assert stored["expiresAt"] == int((START + 28800) * 1000)
    assert any_world.http.calls()[-1].headers["authorization"] == f"Bearer {stored['accessToken']}"
    assert stat.S_IMODE((any_world.config / ".credentials.json").stat().st_mode) == 0o600
    assert any_world.locks() == []
    assert not (any_world.config / ".oauth_refresh.lock.owner").exists()


def test_the_events_of_a_refresh_come_in_order(world):
    """The document's names for a quiet refresh, and the further ones around the request."""
    world.login()
    world.run()
    assert world.events() == [
        "token_refresh_lock_acquiring",
        "token_refresh_lock_acquired",
        "token_refresh_starting",
        "token_refresh_success",
        "tokens_saved",
        "token_refresh_completed",
        "token_refresh_lock_releasing",
        "token_refresh_lock_released",
    ]


@pytest.mark.parametrize(
    ("dialect", "host", "agent", "scope"),
    [
        ("1.0", "console.anthropic.com", "axios/1.8.4", None),
        ("2.1.123", "platform.claude.com", "axios/1.13.6", "user:file_upload"),
        ("2.1.330", "platform.claude.com", "axios/1.15.2", "user:plugins"),
    ],
)
def test_the_token_request_is_that_of_the_release(make_world, dialect, host, agent, scope):
    """JSON to the release's own host, with its own scopes and agent, and without a bearer."""
    world = make_world(dialect)
    grant = world.login()
    world.run(CLAUDE_CODE_OAUTH_CLIENT_ID="my-client")
    (post,) = world.http.posts()
    assert post.host == host
    assert post.headers["user-agent"] == agent
    assert post.headers["content-type"] == "application/json"
    assert "authorization" not in post.headers
    assert list(post.json)[:3] == ["grant_type", "refresh_token", "client_id"]
    assert post.json["refresh_token"] == grant.refresh[0].secret
    assert post.json["client_id"] == "my-client"
    assert post.json.get("scope", "").split()[-1:] == ([scope] if scope else [])


@pytest.mark.parametrize(
    ("expires", "posts"),
    [
        ((START + 295) * 1000, 1),
        ((START + 300) * 1000 + 0.5, 0),
        ((START + 330) * 1000, 0),
        (0, 1),
        (None, 0),
        (True, 0),
        ("soon", 0),
    ],
)
def test_a_refresh_is_due_five_minutes_before_the_end(world, expires, posts):
    """expiresAt is in milliseconds; null means never."""
    world.login(expires=expires)
    world.run()
    assert len(world.http.posts()) == posts


def test_without_a_refresh_token_the_expired_token_is_sent_as_it_is(any_world):
    """Nothing to refresh with: the service is left to say no."""
    grant = any_world.login(refreshToken="")
    any_world.run(CLAUDE_CODE_MAX_RETRIES="2")
    assert any_world.http.posts() == []
    assert {call.headers["authorization"] for call in any_world.http.calls()} == {f"Bearer {grant.access[0].secret}"}


def test_scopes_that_are_null_log_2_1_123_out_and_not_2_1_330(make_world):
    """For the newer release a subscription is enough."""
    old, new = make_world("2.1.123"), make_world("2.1.330")
    for world in (old, new):
        world.login(scope=None, subscriptionType="max")
    assert old.run().out == "Not logged in · Please run /login\n"
    assert new.run().out == "A\n"
    assert (len(old.http.posts()), len(new.http.posts())) == (0, 1)


@pytest.mark.parametrize("document", ['{"claudeAiOauth": {"acc', "[]", "{}", '{"claudeAiOauth": 3}'])
def test_a_store_that_holds_no_login_is_none(world, document):
    """A torn file, or one with something else in it, is nobody logged in, and stays as it is."""
    world.put(document)
    assert world.run().out == "Not logged in · Please run /login\n"
    assert (world.config / ".credentials.json").read_text() == document


def test_what_others_keep_in_the_store_survives(any_world):
    """A refresh changes the login's fields and no sibling."""
    grant = any_world.login()
    entry = {**any_world.stored(), "rateLimitTier": "max_20x"}
    any_world.put({"claudeAiOauth": entry, "mcpOAuth": {"x": 1}})
    any_world.run()
    document = json.loads((any_world.config / ".credentials.json").read_text())
    assert document["mcpOAuth"] == {"x": 1}
    assert document["claudeAiOauth"]["rateLimitTier"] == "max_20x"
    assert document["claudeAiOauth"]["refreshToken"] == grant.refresh[1].secret


def test_a_symlinked_file_is_replaced_and_in_1_0_followed(make_world, tmp_path):
    """The rename of the newer releases detaches the store; the old one writes through the link."""
    for dialect, linked in (("1.0", True), ("2.1.123", False), ("2.1.330", False)):
        world = make_world(dialect)
        world.login(world.home / "elsewhere")
        world.config.mkdir()
        (world.config / ".credentials.json").symlink_to(world.home / "elsewhere" / ".credentials.json")
        world.run()
        assert (world.config / ".credentials.json").is_symlink() is linked


# What the answer must have.


def test_an_answer_without_the_scope_is_not_saved(make_world):
    """The rotated token is lost without a word, and the next request kills the login; 1.0 doesn't mind."""
    for dialect, saved in (("1.0", True), ("2.1.123", False), ("2.1.330", False)):
        world = make_world(dialect)
        world.login()
        reply = {"access_token": "at", "refresh_token": "rt", "expires_in": 28800}
        world.http.script[TOKEN] = [answer(200, reply)]
        world.run(CLAUDE_CODE_MAX_RETRIES="0")
        assert (world.stored()["accessToken"] == "at") is saved
        assert ("tokens_not_claude_ai" in world.events()) is not saved


def test_an_answer_without_a_life_is_not_saved(world):
    """A token without an end is not taken for a login."""
    world.login()
    world.http.script[TOKEN] = [answer(200, {"access_token": "at", "expires_in": True, "scope": "user:inference"})]
    world.run(CLAUDE_CODE_MAX_RETRIES="0")
    assert "tokens_inference_only" in world.events()


def test_an_answer_without_a_refresh_token_keeps_the_old_one(any_world):
    """The service may omit it."""
    grant = any_world.login()
    reply = {"access_token": "at", "expires_in": 28800, "scope": "user:inference"}
    any_world.http.script[TOKEN] = [answer(200, reply)]
    any_world.run(CLAUDE_CODE_MAX_RETRIES="0")
    assert any_world.stored()["refreshToken"] == grant.refresh[0].secret


def test_2_1_330_falls_back_to_the_scopes_of_the_store(make_world):
    """Where its own scopes are refused, it asks once more; the older release does not."""
    policy = Policy(scopes=frozenset({"user:inference"}))
    for dialect, statuses in (("2.1.123", {400}), ("2.1.330", [400, 200])):
        world = make_world(dialect, policy)
        world.login()
        world.run(CLAUDE_CODE_MAX_RETRIES="0")
        assert outcome(world) == statuses or set(outcome(world)) == statuses
        assert ("refresh_invalid_scope_fallback" in world.events()) is (dialect == "2.1.330")


def test_a_read_only_store_leaves_the_process_with_its_login_in_memory(world, monkeypatch):
    """A failed write is told; the process goes on, and the store keeps the spent token."""
    grant = world.login()

    def fail(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pytest_claude_tokens.claude.store.os.rename", fail)
    assert world.run().out == "A\n"
    assert world.events()[4:6] == ["tokens_save_failed", "tokens_save_exception"]
    assert world.stored()["refreshToken"] == grant.refresh[0].secret
    assert os.listdir(world.config) == [".credentials.json"]


def test_a_file_that_is_a_mount_is_written_in_place(world, monkeypatch):
    """Where the rename is refused as busy, the inode stays."""
    world.login()
    inode = (world.config / ".credentials.json").stat().st_ino

    def busy(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr("pytest_claude_tokens.claude.store.os.rename", busy)
    world.run()
    assert world.stored()["accessToken"] == world.server.authority.grants[0].access[1].secret
    assert (world.config / ".credentials.json").stat().st_ino == inode


def test_2_1_330_locks_its_writes_and_does_not_wait_for_ever(make_world):
    """A storage lock that is left behind costs a second."""
    world = make_world("2.1.330")
    world.login()
    (world.config / ".storage-write.lock").mkdir()
    world.run()
    assert world.naps.count(0.05) == 20
    assert world.stored()["accessToken"] == world.server.authority.grants[0].access[1].secret


# Contention.


def test_a_contended_process_waits_and_resolves_the_race(any_world):
    """Lock taken: retry after one to two seconds, re-read, adopt; the five names of the document tell it."""
    any_world.login()
    lock = any_world.home / "config.lock"
    lock.mkdir()

    def winner():  # writes, and lets go, while the contender sleeps
        any_world.on_sleep.clear()
        entry = any_world.stored()
        grant = any_world.server.authority.grants[0]
        done = any_world.server.authority.redeem(grant.refresh[0].secret, any_world.now())
        later = int((START + 28800) * 1000)
        entry.update(accessToken=done.access.secret, refreshToken=done.refresh.secret, expiresAt=later)
        any_world.put({"claudeAiOauth": entry})
        lock.rmdir()

    any_world.on_sleep.append(winner)
    assert any_world.run().out == "A\n"
    assert any_world.naps == [1.5]
    assert any_world.http.posts() == []
    expected = ["token_refresh_lock_acquiring", "token_refresh_lock_retry", *RESOLVED]
    assert [name for name in any_world.events() if name != "refresh_legacy_lock_contended"] == expected


def test_what_was_read_before_the_lock_is_not_believed(any_world, monkeypatch):
    """A winner that wrote between the last look and the lock is noticed under the lock."""
    any_world.login()
    grant = any_world.server.authority.grants[0]
    mkdir = os.mkdir

    def just_before(path, *args, **kwargs):
        if str(path) == f"{any_world.config}.lock" and len(grant.access) == 1:
            done = any_world.server.authority.redeem(grant.refresh[0].secret, any_world.now())
            entry = any_world.stored()
            later = int((START + 28800) * 1000)
            entry.update(accessToken=done.access.secret, refreshToken=done.refresh.secret, expiresAt=later)
            any_world.put({"claudeAiOauth": entry})
        return mkdir(path, *args, **kwargs)

    monkeypatch.setattr("pytest_claude_tokens.lease.os.mkdir", just_before)
    assert any_world.run().out == "A\n"
    assert any_world.http.posts() == []
    assert any_world.events()[1:4] == ["token_refresh_lock_acquired", *RESOLVED]


def test_a_logout_while_waiting_for_the_lock_is_noticed_under_it(world, monkeypatch):
    """Without a refresh token there is nothing to do under the lock."""
    world.login()
    mkdir = os.mkdir

    def just_before(path, *args, **kwargs):
        if str(path).endswith("config.lock"):
            (world.config / ".credentials.json").unlink()
        return mkdir(path, *args, **kwargs)

    monkeypatch.setattr("pytest_claude_tokens.lease.os.mkdir", just_before)
    assert world.run().out == "Not logged in · Please run /login\n"
    assert world.http.posts() == []


def test_a_killed_holders_fresh_lock_is_waited_out_by_2_1_123(world):
    """Five retries, the expired token, a 401, five more, and the lock is stale: all well after some eleven seconds."""
    world.login()
    (world.home / "config.lock").mkdir()
    os.utime(world.home / "config.lock", (START, START))
    assert world.run().out == "A\n"
    assert [call["status"] for call in calls(world)] == [401, 200]
    assert "token_refresh_lock_retry_limit_reached" in world.events()
    assert 10 < world.now() - START < 13
    assert outcome(world) == [200]


def test_a_killed_holders_fresh_lock_ends_2_1_330(make_world):
    """It gives up without a request, and says what may have happened."""
    world = make_world("2.1.330")
    world.login()
    (world.config / ".oauth_refresh.lock").mkdir()
    os.utime(world.config / ".oauth_refresh.lock", (START + 60, START + 60))
    done = world.run()
    assert done.status == 1
    assert done.out.startswith("Failed to refresh OAuth token: another Claude Code process is refreshing it or exited")
    assert world.http.requests == []
    assert world.events()[-1] == "token_refresh_lock_retry_limit_reached"
    assert world.run("auth", "status").status == 0


def test_2_1_330_goes_on_with_the_expired_token_while_a_live_holder_is_slow(make_world):
    """The owner's file names a living process: it has given up waiting, not hope."""
    world = make_world("2.1.330")
    world.login()
    lock = world.config / ".oauth_refresh.lock"
    lock.mkdir()
    os.utime(lock, (START + 60, START + 60))
    owner = world.config / ".oauth_refresh.lock.owner"
    owner.write_text(json.dumps({"pid": os.getpid()}))
    waiting = then_the_service(lambda: None)
    world.http.script["/v1/messages"] = [waiting, waiting, then_the_service(lambda: (lock.rmdir(), owner.unlink()))]
    assert world.run().out == "A\n"
    assert [call["status"] for call in calls(world)] == [401, 401, 401, 200]
    assert outcome(world) == [200]


def test_2_1_330_looks_twice_before_it_calls_a_lock_abandoned(make_world):
    """A holder that is just letting go has no owner's file any more; a moment later it has no lock either."""
    world = make_world("2.1.330")
    world.login()
    lock = world.config / ".oauth_refresh.lock"
    lock.mkdir()
    os.utime(lock, (START + 60, START + 60))

    def gone():
        if world.naps[-1] == 0.1:
            world.on_sleep.clear()
            lock.rmdir()

    world.on_sleep.append(gone)
    assert world.run().out == "A\n"
    assert outcome(world) == [200]


def test_the_lock_of_an_older_release_counts_as_contention_for_2_1_330(make_world):
    """With the outer lock taken, the inner one is given back."""
    world = make_world("2.1.330")
    world.login()
    lock = world.home / "config.lock"
    lock.mkdir()
    os.utime(lock, (START, START))
    (world.config / ".oauth_refresh.lock.owner").write_text(json.dumps({"pid": os.getpid()}))
    seen = []
    world.on_sleep.append(lambda: seen.append((world.config / ".oauth_refresh.lock").exists()))
    assert world.run().out == "A\n"
    assert "refresh_legacy_lock_contended" in world.events()
    assert not any(seen)


def test_a_stale_lock_is_taken_over_at_once(any_world):
    """More than ten seconds old: no wait, one request."""
    any_world.login()
    for path in (any_world.home / "config.lock", any_world.config / ".oauth_refresh.lock"):
        path.mkdir()
        os.utime(path, (START - 11, START - 11))
    assert any_world.run().out == "A\n"
    assert any_world.naps == []
    assert outcome(any_world) == [200]


def test_a_lock_that_cannot_be_made_is_told(make_world, monkeypatch):
    """A parent that can't be written: the error is an event, the expired token is sent."""
    for dialect in ("2.1.123", "2.1.330"):
        world = make_world(dialect)
        world.login()
        with monkeypatch.context() as patch:
            patch.setattr("pytest_claude_tokens.lease.os.mkdir", refuse(str(world.home / "config.lock"), os.mkdir))
            assert world.run(CLAUDE_CODE_MAX_RETRIES="0").status == 1
        assert "token_refresh_lock_error" in world.events()
        assert world.locks() == []


def test_a_lock_that_is_gone_or_cannot_be_removed_is_told(world, monkeypatch):
    """The release says so in an event, and nothing else happens."""
    world.login()
    monkeypatch.setattr("pytest_claude_tokens.lease.os.rmdir", refuse(str(world.home / "config.lock"), os.rmdir))
    assert world.run().out == "A\n"
    assert world.events()[-1] == "token_refresh_lock_release_error"


# Losers.


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


# 2.1.330 and lost leases.


def test_2_1_330_does_not_ask_once_its_lease_is_lost(make_world, monkeypatch):
    """Lost before the request: no request."""
    world = make_world("2.1.330")
    world.login()
    touch = "pytest_claude_tokens.lease.Lease.touch"
    monkeypatch.setattr(touch, lambda lease: False)
    world.run(CLAUDE_CODE_MAX_RETRIES="0")
    assert world.http.posts() == []
    assert "token_refresh_lock_compromised_pre_post" in world.events()


@pytest.mark.parametrize(
    ("status", "event"),
    [(200, "token_refresh_lock_compromised_post_post"), (500, "token_refresh_lock_compromised_in_catch")],
)
def test_2_1_330_notices_a_lease_that_was_lost_during_the_request(make_world, status, event):
    """After a success it saves all the same, where nobody else has written."""
    world = make_world("2.1.330")
    world.login()

    def taken(asked):
        os.utime(f"{world.config}.lock", (1, 1))
        return None if status == 200 else answer(500)(asked)

    world.http.script[TOKEN] = [taken]
    world.run(CLAUDE_CODE_MAX_RETRIES="0")
    assert event in world.events()
    assert "token_refresh_lock_release_error" in world.events()
    assert ("refresh_compromised_cas_saved" in world.events()) is (status == 200)


def test_2_1_330_adopts_what_a_sibling_has_written_during_the_request(make_world):
    """Compare-and-swap: its own pair is thrown away; 2.1.123 writes over the sibling's."""
    for dialect, kept in (("2.1.123", False), ("2.1.330", True)):
        world = make_world(dialect)
        world.login()

        def sibling(asked, world=world):
            entry = {**world.stored(), "refreshToken": "sibling", "expiresAt": (START + 9999) * 1000}
            world.put({"claudeAiOauth": entry})

        world.http.script[PROFILE] = [sibling]
        world.run(CLAUDE_CODE_MAX_RETRIES="0")
        assert (world.stored()["refreshToken"] == "sibling") is kept
        assert ("refresh_compromised_cas_adopted_sibling" in world.events()) is kept


def test_2_1_330_can_keep_its_credentials_apart(make_world):
    """CLAUDE_SECURESTORAGE_CONFIG_DIR moves the store and the locks."""
    world = make_world("2.1.330")
    apart = world.home / "apart"
    world.login(apart)
    locks = []
    world.http.script[TOKEN] = [lambda asked: locks.extend(world.locks())]
    assert world.run(CLAUDE_SECURESTORAGE_CONFIG_DIR=str(apart)).out == "A\n"
    assert locks == [".oauth_refresh.lock", "apart.lock"]


def test_the_lock_lies_in_the_parent_of_the_config_directory(world):
    """Where only the directory is shared, and not its parent, the locks are not."""
    world.login()
    locks = []
    world.http.script[TOKEN] = [lambda asked: locks.extend(path.parent for path in world.folder.rglob("*.lock"))]
    world.run()
    assert locks == [world.home]


# Signals.


def test_sigterm_ends_2_1_123_at_once_and_burns_the_token(world):
    """The service has rotated, the answer is never read, the lock is removed."""
    grant = world.login()

    def killed(asked):
        world.server.authority.redeem(asked.json["refresh_token"], world.now())
        world.machine.terminate(143)

    world.http.script[TOKEN] = [killed]
    assert world.run().status == 143
    assert world.locks() == []
    assert world.stored()["refreshToken"] == grant.refresh[0].secret
    assert world.run().status == 1


def test_sigterm_lets_2_1_330_finish_its_refresh(make_world):
    """It saves the answer, and then ends."""
    world = make_world("2.1.330")
    world.login()
    world.http.script[TOKEN] = [lambda asked: world.machine.terminate(143)]
    done = world.run()
    assert (done.status, done.out) == (143, "")
    assert world.http.calls() == []
    assert world.stored()["accessToken"] == world.server.authority.grants[0].access[1].secret
    assert world.run().out == "A\n"


def test_an_error_under_the_shield_gives_way_to_the_signal(world):
    """A signal that waited is not forgotten because the work behind the shield failed."""
    world.run("--help")

    def fail():
        with world.machine.shielded(True):
            world.machine.terminate(130)
            raise ValueError

    with pytest.raises(Terminated) as end:
        fail()
    assert end.value.code == 130


# Helpers.


def calls(world):
    """The outcomes of the calls, as the service told them."""
    ends = [event for event in world.server.journal.events if event.f == "call" and event.type in ("ok", "fail")]
    return [{"status": event.status} for event in ends]


def refuse(path, function):
    """``function``, except for ``path`` (any, if empty), which is refused."""

    def refused(first, *args, **kwargs):
        if path in ("", str(first)):
            raise PermissionError(errno.EACCES, "Permission denied")
        return function(first, *args, **kwargs)

    return refused


def then_the_service(action):
    """A script's step that does ``action`` and leaves the answer to the service."""

    def step(asked):
        action()

    return step
