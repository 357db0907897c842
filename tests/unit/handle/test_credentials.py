from __future__ import annotations

import json
import os

import pytest

from pytest_claude_tokens.claude.credentials import claude_credentials, read_refresh_token, write_new


@pytest.mark.parametrize(
    "stored",
    [
        {"claudeAiOauth": {"refreshToken": "rt"}},
        '{"claudeAiOauth":{"refreshToken":"rt"},"mcpOAuth":{}}',
        b'{"version":"1.0","refresh_token":"rt"}',
        bytearray(b"rt\n"),
        {"refresh_token": "rt"},
        {"refreshToken": "rt"},
        "rt",
        '"rt"',
    ],
)
def test_every_known_form_has_its_refresh_token_found(stored):
    """Claude Code's JSON, the SDK's, and the token alone, as values, texts and bytes."""
    assert read_refresh_token(stored) == "rt"


@pytest.mark.parametrize(
    "stored",
    [None, "", "  \n", "null", "{}", {}, {"claudeAiOauth": None}, {"claudeAiOauth": {"refreshToken": ""}}, '""', b""],
)
def test_a_store_without_a_refresh_token_is_blank(stored):
    """Nothing there, an empty text, `null`, or credentials whose login is gone."""
    assert read_refresh_token(stored) is None


@pytest.mark.parametrize(
    "stored",
    ['{"claudeAiOauth":{"refr', "[1]", 7, ["rt"], {"claudeAiOauth": 7}, {"refresh_token": 7}, b"\xff", "not json"],
)
def test_what_is_no_credentials_is_refused(stored):
    """A torn file, and a callable that returns something else, can't be read."""
    with pytest.raises(ValueError):
        read_refresh_token(stored)


def test_the_deadline_is_left_out_where_there_is_none():
    """A setup-token has no refresh deadline."""
    login = claude_credentials("at", None, 1.5, "user:inference")["claudeAiOauth"]

    assert login["expiresAt"] == 1500
    assert login["scopes"] == ["user:inference"]
    assert "refreshTokenExpiresAt" not in login


def test_a_file_is_for_its_owner_only_and_never_replaced(tmp_path):
    """0600 whatever the umask, and a second write is an error."""
    path = tmp_path / "credentials"
    mask = os.umask(0)
    try:
        write_new(path, {"a": 1})
    finally:
        os.umask(mask)

    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {"a": 1}
    with pytest.raises(FileExistsError):
        write_new(path, {})
