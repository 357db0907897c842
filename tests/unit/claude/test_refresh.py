"""The refresh of the fake claude, alone with the service: what it asks, what it stores, and of what release."""

from __future__ import annotations

import errno
import json
import os
import stat

import pytest

from fake_server import Policy
from tests.unit.claude.world import START, TOKEN, answer, outcome

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
