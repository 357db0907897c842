"""The credentials file of Claude Code: its name, its JSON, and how to read the refresh token out of one.

It imports nothing heavy, because the fake ``claude`` loads it at each start.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FILE", "claude_credentials", "read_refresh_token", "write_new"]

FILE = ".credentials.json"
"""The file's name in a config directory. The leading dot is part of it."""


def claude_credentials(
    access_token: str,
    refresh_token: str | None,
    expires_at: float,
    scope: str,
    refresh_expires_at: float | None = None,
) -> dict[str, Any]:
    """The JSON that Claude Code stores for a login. Times are POSIX seconds here, and milliseconds there."""
    login: dict[str, Any] = {
        "accessToken": access_token,
        "refreshToken": refresh_token,
        "expiresAt": round(expires_at * 1000),
        "scopes": scope.split(),
        "subscriptionType": "max",
        "rateLimitTier": "default_claude_max_5x",
    }
    if refresh_expires_at is not None:
        login["refreshTokenExpiresAt"] = round(refresh_expires_at * 1000)
    return {"claudeAiOauth": login}


def write_new(path: str | os.PathLike[str], credentials: dict[str, Any]) -> None:
    """Write a file that only its owner may read. Raises ``FileExistsError`` where there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(credentials, file)


def read_refresh_token(stored: object) -> str | None:
    """The refresh token in what a store holds; ``None`` where it holds none.

    ``stored`` is the JSON of Claude Code or of the official SDK, as a text or parsed, or the refresh token alone.
    Raises ``ValueError`` for anything else, a file that is only half written included.
    """
    if isinstance(stored, (bytes, bytearray)):
        stored = stored.decode("utf-8")  # UnicodeDecodeError is a ValueError
    if isinstance(stored, str):
        stored = stored.strip()
        if stored.startswith(("{", "[", '"')) or stored == "null":
            stored = json.loads(stored)
    if isinstance(stored, dict):
        stored = stored.get("claudeAiOauth", stored)
        if isinstance(stored, dict):
            stored = stored.get("refreshToken", stored.get("refresh_token"))
    if stored in (None, ""):
        return None
    if not isinstance(stored, str) or len(stored.split()) != 1:
        raise ValueError("neither credentials nor a refresh token")
    return stored
