"""Tasks that share one login: without a lock, with one, and with one that gives up."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"


class Unlocked:
    """Whoever finds the access token expired refreshes it."""

    def __init__(self, account):
        self.access, self.refresh, self.expires = account.access_token, account.refresh_token, account.expires_at
        self.lock = asyncio.Lock()

    async def bearer(self):
        if time.time() >= self.expires:
            body = {"grant_type": "refresh_token", "refresh_token": self.refresh, "client_id": "example"}
            async with httpx.AsyncClient() as client:
                new = (await client.post(TOKEN_URL, json=body)).raise_for_status().json()
            self.access, self.refresh = new["access_token"], new["refresh_token"]
            self.expires = time.time() + new["expires_in"]
        return self.access


class Locked(Unlocked):
    """One at a time, and each looks again when its turn has come."""

    async def bearer(self):
        async with self.lock:
            return await super().bearer()


class Impatient(Unlocked):
    """Waits for the lock for half a minute, and then goes on without it."""

    async def bearer(self):
        try:
            async with asyncio.timeout(30):
                await self.lock.acquire()
        except TimeoutError:
            return await super().bearer()
        try:
            return await super().bearer()
        finally:
            self.lock.release()


@pytest.mark.xfail(raises=DoubleSpend, strict=True, reason="nothing keeps two tasks from refreshing at once")
@explore(workers=2)
async def test_without_a_lock(claude_tokens, workers):
    """Breaks in default order. Run it with --runxfail to read how."""
    await workers(Unlocked(claude_tokens.account(expired=True)).bearer)


@pytest.mark.xfail(raises=DoubleSpend, strict=True, reason="a slow reply outlives the patience of the next in line")
@settings(max_examples=1000)
@explore(workers=2)
async def test_with_a_lock_that_gives_up(claude_tokens, workers):
    """Breaks only where a reply takes longer than half a minute, which is soon: time is simulated."""
    await workers(Impatient(claude_tokens.account(expired=True)).bearer)


@explore(workers=4)
async def test_with_a_lock(claude_tokens, workers):
    """Sound, in every order that was tried: one token request, and all get the same bearer."""
    bearers = await workers(Locked(claude_tokens.account(expired=True)).bearer)
    assert len(set(bearers)) == 1
    assert [request.f for request in claude_tokens.history.operations] == ["token"]


@explore(workers=2, exhaustive=2)
async def test_with_a_lock_exhaustively(claude_tokens, workers):
    """Sound in every schedule with at most two deviations from default order."""
    await workers(Locked(claude_tokens.account(expired=True)).bearer)
