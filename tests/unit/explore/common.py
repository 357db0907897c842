"""A dispatcher that is sound or not, counted runs, and a search outside of pytest that says what came of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from hypothesis import settings

from pytest_claude_tokens.search.context import ExplorationContext, Report
from pytest_claude_tokens.search.explore import Counterexample
from tests.zoo.outside import error_of

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"
CALL_URL = "https://api.anthropic.com/v1/messages"
HELLO_URL = "https://api.anthropic.com/api/hello"

quick = settings(database=None, derandomize=True)


class Login:
    """Tokens in memory, refreshed when they have expired, under a lock or not."""

    def __init__(self, account: Any, lock: asyncio.Lock | None = None) -> None:
        self.access, self.refresh_token = account.access_token, account.refresh_token
        self.expires = account.expires_at
        self.lock = lock

    async def token(self) -> str:
        if self.lock is None:
            return await self.unlocked()
        async with self.lock:
            return await self.unlocked()

    async def unlocked(self) -> str:
        if time.time() >= self.expires:
            await self.refresh()
        return self.access

    async def refresh(self) -> None:
        async with httpx.AsyncClient() as client:
            reply = await client.post(TOKEN_URL, json=refreshing(self.refresh_token))
        got = reply.raise_for_status().json()
        self.access, self.refresh_token = got["access_token"], got["refresh_token"]
        self.expires = time.time() + got["expires_in"]


def refreshing(refresh: str) -> dict[str, str]:
    """The body of a token request."""
    return {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": "explored"}


def sound(tokens: Any) -> Login:
    """A login that two workers may share."""
    return Login(tokens.account(expired=True), asyncio.Lock())


def unsound(tokens: Any) -> Login:
    """A login that two workers spend twice."""
    return Login(tokens.account(expired=True))


async def hello() -> str:
    """The plainest request there is."""
    async with httpx.AsyncClient() as client:
        return str((await client.get(HELLO_URL)).json()["message"])


@dataclass(frozen=True)
class Result:
    """What a search came to."""

    error: BaseException | None
    report: Report | None

    @property
    def found(self) -> Counterexample:
        found: Counterexample = self.error.claude_tokens_found  # type: ignore[union-attr]
        return found

    @property
    def notes(self) -> list[str]:
        return list(getattr(self.error, "__notes__", ()))


def search(test: Any, *args: Any, fixtures: dict[str, Any] | None = None, **context: Any) -> Result:
    """Explore as pytest would, with these settings of the run around it."""
    reports: list[Report] = []
    made = ExplorationContext(**context, reported=reports.append)
    error = error_of(
        partial(test, *args, **(fixtures or {})), made, caught=(Exception, KeyboardInterrupt, asyncio.CancelledError)
    )
    return Result(error, reports[-1] if reports else None)
