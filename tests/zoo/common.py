"""What the dispatchers of the zoo share: a login in memory, a login in a file, and what goes over the wire."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import current_thread
from typing import Any

import httpx

from pytest_claude_tokens.violations import Violation

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"
CALL_URL = "https://api.anthropic.com/v1/messages"
HELLO_URL = "https://api.anthropic.com/api/hello"
PROFILE_URL = "https://api.anthropic.com/api/oauth/profile"
MESSAGE = {"model": "claude-x", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**MESSAGE, "stream": True}


@dataclass
class Login:
    """One login as a client keeps it. ``expires``: POSIX seconds."""

    access: str
    refresh: str
    expires: float

    @classmethod
    def of(cls, credentials: Mapping[str, Any]) -> Login:
        """The login in the JSON that Claude Code stores."""
        oauth = credentials["claudeAiOauth"]
        return cls(oauth["accessToken"], oauth["refreshToken"], oauth["expiresAt"] / 1000)

    @classmethod
    def from_reply(cls, reply: Mapping[str, Any]) -> Login:
        """The login in a token reply."""
        return cls(reply["access_token"], reply["refresh_token"], time.time() + reply["expires_in"])

    @property
    def expired(self) -> bool:
        return time.time() >= self.expires


class LoginFile:
    """A ``.credentials.json``, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".credentials.json"

    def read(self) -> Login:
        return Login.of(self.read_all())

    def read_all(self) -> dict[str, Any]:
        stored: dict[str, Any] = json.loads(self.path.read_text())
        return stored

    def write(self, login: Login) -> None:
        stored = self.read_all()
        stored["claudeAiOauth"] |= {
            "accessToken": login.access,
            "refreshToken": login.refresh,
            "expiresAt": int(login.expires * 1000),
        }
        self.write_all(stored)

    def write_all(self, stored: Mapping[str, Any]) -> None:
        new = self.path.with_suffix(f".{current_thread().name}")  # of this writer's own
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(stored, file)
        os.replace(new, self.path)


def token_request(refresh: str) -> dict[str, str]:
    """The body of a token request."""
    return {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": "zoo"}


def bearer_header(access: str) -> dict[str, str]:
    """The header of a call."""
    return {"Authorization": f"Bearer {access}"}


async def redeem(refresh: str, *, timeout: float = 5) -> Login:
    """Spend a refresh token, with a client of its own, as most real code does."""
    async with httpx.AsyncClient(timeout=timeout) as client:
        response = await client.post(TOKEN_URL, json=token_request(refresh))
    return Login.from_reply(response.raise_for_status().json())


def redeem_now(refresh: str, *, timeout: float = 5) -> Login:
    """:func:`redeem` in a thread."""
    with httpx.Client(timeout=timeout) as client:
        response = client.post(TOKEN_URL, json=token_request(refresh))
    return Login.from_reply(response.raise_for_status().json())


Body = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A dispatcher with one planted bug, and its sound twin, each in the body of a test.

    ``invariant``: what the planted one breaks. ``handle``: keywords for the handle; ``options``: for ``explore``.
    ``schedules``: in how many the bug has to be found.
    """

    name: str
    invariant: type[Violation]
    planted: Body
    sound: Body
    workers: int = 4
    schedules: int = 200
    handle: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def named(body: Body, maker: Callable[..., Any], *details: object) -> Body:
    """Give a body that was made in a function a name of its own: the search files what it knows by that."""
    body.__qualname__ = body.__name__ = "_".join([body.__name__, maker.__name__, *map(str, details)])
    return body
