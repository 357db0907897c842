"""Grants: what a login gives, and the corners that the model in ``tests/property`` does not visit."""

from __future__ import annotations

import pytest

from fake_server.core.authority import Authority
from fake_server.core.states import Outcome, RefreshState
from fake_server.policy import Policy
from fake_server.tokens import TOKEN

NOW = 1000.0


@pytest.fixture
def authority() -> Authority:
    return Authority(Policy(), "test")


def test_a_login_gives_a_live_pair(authority: Authority) -> None:
    """An access token for eight hours and a refresh token, both minted here, both unmistakably fake."""
    grant = authority.login("alice", NOW, scope="user:inference")
    (access,), (refresh,) = grant.access, grant.refresh

    assert (access.label, refresh.label) == ("at#1", "rt#1")
    assert TOKEN.fullmatch(access.secret)
    assert TOKEN.fullmatch(refresh.secret)
    assert access.expires_at == NOW + 28800
    assert authority.bearer(access.secret, NOW).token is access
    assert authority.refresh_token(refresh.secret) is refresh
    assert authority.accepted(grant, NOW) == ("rt#1",)


def test_a_setup_token_has_no_refresh_token_and_its_grant_lives_as_long_as_it(authority: Authority) -> None:
    """A year, not the thirty days that a refresh token would have."""
    grant = authority.login("ci", NOW, scope="user:inference", expires_in=31536000, setup_token=True)

    assert grant.refresh == []
    assert authority.accepted(grant, NOW) == ()
    assert grant.died(NOW + 31535999) is None
    assert grant.died(NOW + 31536000) == "expiry"


def test_labels_count_within_a_grant_and_secrets_over_all(authority: Authority) -> None:
    """Two grants both have an ``rt#1``, never the same secret."""
    grants = [authority.login(name, NOW, scope="s") for name in ("alice", "bob", "alice")]

    assert [grant.name for grant in grants] == ["g#1", "g#2", "g#3"]
    assert {grant.refresh[0].label for grant in grants} == {"rt#1"}
    assert len({secret for grant in grants for secret in (grant.access[0].secret, grant.refresh[0].secret)}) == 6
    assert authority.grants_of("alice") == [grants[0], grants[2]]
    assert authority.grants_of("carol") == []


def test_the_deadline_does_not_slide() -> None:
    """However often it is rotated, a refresh token ends thirty days after the login."""
    authority = Authority(Policy(refresh_expires_in=100), "test")
    grant = authority.login("alice", NOW, scope="s")
    for second in range(0, 100, 20):
        done = authority.redeem(grant.refresh[-1].secret, NOW + second)
        assert done.outcome is Outcome.ROTATED

    late = authority.redeem(grant.refresh[-1].secret, NOW + 100)
    assert (late.outcome, late.reason) == (Outcome.REFUSED, "expired")


def test_a_refresh_token_that_was_found_expired_stays_so_when_the_clock_goes_back() -> None:
    """A frozen clock may be moved backwards; what the service has refused once it does not take up again."""
    authority = Authority(Policy(refresh_expires_in=100, reuse="revoke-successor"), "test")
    grant = authority.login("alice", NOW, scope="s")
    authority.redeem(grant.refresh[0].secret, NOW)
    authority.redeem(grant.refresh[1].secret, NOW + 100)

    assert grant.refresh[1].state is RefreshState.EXPIRED
    assert authority.accepted(grant, NOW) == ()
    reused = authority.redeem(grant.refresh[0].secret, NOW)
    assert (reused.outcome, reused.revoked) == (Outcome.REUSED, ())
    assert grant.died(NOW) == "reuse"


def test_the_same_namespace_gives_the_same_tokens() -> None:
    """Runs can be repeated byte for byte, and two services never share a token."""
    first, same, other = (
        Authority(Policy(), name).login("alice", NOW, scope="s").refresh[0].secret for name in ("a", "a", "b")
    )
    assert first == same != other


def test_no_representation_tells_a_secret(authority: Authority) -> None:
    """Tracebacks and assertion messages show these objects."""
    grant = authority.login("alice", NOW, scope="s")
    done = authority.redeem(grant.refresh[0].secret, NOW)

    for thing in (grant, done, *grant.access, *grant.refresh, authority.bearer(grant.access[0].secret, NOW)):
        assert not TOKEN.search(repr(thing))


def test_a_grace_window_starts_at_the_first_use_and_is_not_extended() -> None:
    """However often the token is replayed inside it."""
    authority = Authority(Policy.grace(30), "test")
    old = authority.login("alice", NOW, scope="s").refresh[0].secret
    outcomes = [authority.redeem(old, NOW + second).outcome for second in (0, 15, 29, 30)]
    assert outcomes == [Outcome.ROTATED, Outcome.REPLAYED, Outcome.REPLAYED, Outcome.REUSED]


def test_without_a_grace_window_a_clock_that_goes_back_opens_none() -> None:
    """A window of no seconds contains no moment, not even one before the first use of the token."""
    authority = Authority(Policy(), "test")
    old = authority.login("alice", NOW, scope="s").refresh[0].secret
    authority.redeem(old, NOW)

    assert authority.redeem(old, NOW - 1).outcome is Outcome.REUSED


def test_only_a_request_that_was_under_way_collides() -> None:
    """Where the policy asks one of two at once to retry: a token that was spent before is a reuse."""
    authority = Authority(Policy(at_once="retry"), "test")
    old = authority.login("alice", NOW, scope="s").refresh[0].secret
    authority.redeem(old, NOW)

    assert authority.redeem(old, NOW, was_live=True).outcome is Outcome.RETRY
    assert authority.redeem(old, NOW).outcome is Outcome.REUSED


def test_in_a_grace_window_a_spent_token_is_accepted_where_two_at_once_collide() -> None:
    """What would be accepted now does not depend on what is under way."""
    authority = Authority(Policy.grace(30).but(at_once="retry"), "test")
    grant = authority.login("alice", NOW, scope="s")
    authority.redeem(grant.refresh[0].secret, NOW)

    assert authority.accepted(grant, NOW + 1) == ("rt#1", "rt#2")
    assert authority.accepted(grant, NOW + 30) == ("rt#2",)


def test_revoking_an_access_token_names_it_once(authority: Authority) -> None:
    """Only what was live until then has been ended; the pair's refresh token is left."""
    grant = authority.login("alice", NOW, scope="s")
    (access,) = grant.access

    assert authority.revoke_access(access, NOW) == ("at#1",)
    assert authority.revoke_access(access, NOW) == ()
    assert authority.bearer(access.secret, NOW).state == "revoked"
    assert authority.accepted(grant, NOW) == ("rt#1",)
    late = authority.login("bob", NOW, scope="s", expires_in=60)
    assert authority.revoke_access(late.access[0], NOW + 60) == ()


def test_revoking_a_login_ends_what_was_live_until_then() -> None:
    """At the deadline itself its refresh token is over already."""
    authority = Authority(Policy(refresh_expires_in=100), "test")
    ended, over = (authority.login("alice", NOW, scope="s") for _ in range(2))

    assert authority.revoke(ended, NOW + 99) == ("rt#1", "at#1")
    assert (ended.death, ended.died(NOW + 99)) == ("revoke", "revoke")
    assert authority.revoke(over, NOW + 100) == ("at#1",)
    assert (over.death, over.died(NOW + 100)) == (None, "expiry")


def test_forgotten_tokens_hold_no_others(authority: Authority) -> None:
    """A chain of ten thousand would wait for the garbage collector, each held by the one before."""
    grant = authority.login("alice", NOW, scope="s")
    authority.redeem(grant.refresh[0].secret, NOW)
    first, second = grant.refresh
    assert first.successor is second
    authority.forget()

    assert first.successor is None
    assert (grant.access, grant.refresh, grant.unfinished) == ([], [], [])
    assert authority.refresh_token(second.secret) is None
    assert authority.grants_of("alice") == []
