"""The refresh of the fake claude beside others: locks that are held, stale, lost or taken over."""

from __future__ import annotations

import json
import os

import pytest

from tests.unit.claude.world import START, TOKEN, answer, outcome, refuse

PROFILE = "/api/oauth/profile"


RESOLVED = ["token_refresh_lock_race_resolved", "token_refresh_race_resolved"]


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


# Helpers.


def calls(world):
    """The outcomes of the calls, as the service told them."""
    ends = [event for event in world.server.journal.events if event.f == "call" and event.type in ("ok", "fail")]
    return [{"status": event.status} for event in ends]


def then_the_service(action):
    """A script's step that does ``action`` and leaves the answer to the service."""

    def step(asked):
        action()

    return step
