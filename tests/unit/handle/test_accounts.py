from __future__ import annotations

import pytest

from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from tests.unit.handle.requests_of import call, refresh, refresh_body


def test_accounts_without_a_name_are_numbered(tokens):
    """Names are a1, a2, …, and skip those that are taken."""
    assert [tokens.account(name).name for name in (None, "a2", None)] == ["a1", "a2", "a3"]


def test_a_name_is_logged_in_once(tokens):
    """A second login under one name would be a second grant that nobody asked for."""
    tokens.account("work")

    with pytest.raises(ValueError, match="'work' is logged in already"):
        tokens.account("work")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a#1", "a:b", "x" * 33])
def test_a_name_that_no_label_could_carry_is_refused(tokens, name):
    """Names become labels, folders and parts of URLs."""
    with pytest.raises(ValueError, match="an account's name is"):
        tokens.account(name)


def test_an_expiry_in_the_past_is_refused_with_the_way_that_works(tokens):
    """A life of less than nothing is no life."""
    with pytest.raises(ValueError, match=r"^expires_in=-10: .*; a login that is over already has expired=True$"):
        tokens.account(expires_in=-10)


def test_a_token_in_place_of_a_name_is_not_repeated(tokens):
    """An error holds no token."""
    secret = tokens.account().access_token

    with pytest.raises(ValueError) as refused:
        tokens.account(secret)

    assert secret not in str(refused.value)


def test_accounts_can_be_there_from_the_start():
    """`accounts=` logs in what the marker names."""
    with ClaudeTokens(accounts=["x", "y"]) as tokens:
        assert [event.account for event in tokens.history] == ["x", "y"]


def test_one_account_may_be_given_as_a_text():
    """A text is one name, not a row of letters."""
    with ClaudeTokens(accounts="work") as tokens:
        assert [event.account for event in tokens.history] == ["work"]


def test_values_are_those_of_the_login_after_a_rotation(tokens):
    """The object never follows rotation: the old token is the old token."""
    account = tokens.account()
    before = account.refresh_token, account.access_token, account.credentials

    assert refresh(account.refresh_token).status_code == 200

    assert before == (account.refresh_token, account.access_token, account.credentials)


def test_credentials_have_milliseconds_and_are_a_copy(tokens):
    """`.credentials` is the file's JSON, and changing it changes nobody else's."""
    account = tokens.account(expires_in=100)
    login = account.credentials["claudeAiOauth"]

    assert login["expiresAt"] == round(account.expires_at * 1000)
    assert login["refreshTokenExpiresAt"] == round(account.refresh_expires_at * 1000)
    assert "user:inference" in login["scopes"]
    login["refreshToken"] = ""
    assert account.credentials["claudeAiOauth"]["refreshToken"] == account.refresh_token


def test_the_policy_says_how_long_an_access_token_lives():
    """Without `expires_in` the policy decides, 8 h by default."""
    with ClaudeTokens() as tokens:
        assert tokens.account().expires_at == pytest.approx(tokens.clock.now() + 28800, abs=5)


def test_an_expired_account_is_answered_401(tokens):
    """`expired=True`: the access token has ended already, the refresh token lives."""
    account = tokens.account(expired=True)

    assert account.expires_at < tokens.clock.now()
    assert call(account.access_token).status_code == 401
    assert refresh(account.refresh_token).status_code == 200


def test_a_setup_token_lives_a_year_and_has_no_refresh_token(tokens):
    """A setup-token account has one long-lived bearer and no more."""
    account = tokens.account(setup_token=True)

    assert account.setup_token
    assert account.refresh_token is None
    assert account.refresh_expires_at is None
    assert account.credentials["claudeAiOauth"]["refreshToken"] is None
    assert account.expires_at == pytest.approx(tokens.clock.now() + 31536000, abs=5)
    assert call(account.access_token).status_code == 200


def test_no_representation_shows_a_token(tokens):
    """pytest prints values: neither an account nor a handle may tell a secret."""
    account = tokens.account()

    assert repr(account) == "<Account a1 g#1>"
    assert repr(tokens.account(setup_token=True)) == "<Account a2 g#2 setup-token>"
    assert repr(tokens) == "<ClaudeTokens anthropic 2 accounts 2 events>"


def test_expire_and_revoke_change_the_service_only(tokens):
    """The account's values stay; the service no longer honours them."""
    account = tokens.account()
    value = account.expires_at

    tokens.expire(account)
    assert call(account.access_token).status_code == 401
    assert account.expires_at == value
    tokens.revoke("a1")
    assert refresh(account.refresh_token).status_code == 400


def test_advance_moves_the_services_clock(tokens):
    """A token that has 8 h is over after 9."""
    account = tokens.account()

    tokens.advance(9 * 3600)

    assert call(account.access_token).status_code == 401


def test_an_account_that_nobody_logged_in_is_named_in_the_error(tokens):
    """A typing error is answered with the names that there are."""
    with pytest.raises(ValueError, match="there are: none so far"):
        tokens.expire("a1")
    tokens.account("work")
    with pytest.raises(ValueError, match="no account is named 'wrok'; there are: work"):
        tokens.revoke("wrok")


def test_an_account_of_a_client_has_no_value_here(tokens):
    """A login by code exchange is known by name, and its tokens only to the client that made it."""
    import httpx

    body = {
        **refresh_body("x"),
        "grant_type": "authorization_code",
        "code": "alice",
        "redirect_uri": "http://x",
        "code_verifier": "v",
        "state": "s",
    }
    del body["refresh_token"]
    assert httpx.post("https://platform.claude.com/v1/oauth/token", json=body).status_code == 200

    tokens.expire("alice")
    with pytest.raises(ValueError, match="logged in by a client"):
        tokens.env("alice")
    assert tokens.account().name == "a1"
