"""A test that holds under every policy of the workflow: one owner refreshes, and a lock makes the others wait."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from hypothesis import settings

from pytest_claude_tokens import explore

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"


class Owner:
    """Hands out the bearer of one login, and refreshes it once it has expired."""

    def __init__(self, account: Any) -> None:
        self.access, self.refresh, self.expires = account.access_token, account.refresh_token, account.expires_at
        self.lock = asyncio.Lock()

    async def bearer(self) -> str:
        async with self.lock:
            if time.time() >= self.expires:
                body = {"grant_type": "refresh_token", "refresh_token": self.refresh, "client_id": "example"}
                async with httpx.AsyncClient(timeout=600) as client:
                    new = (await client.post(TOKEN_URL, json=body)).raise_for_status().json()
                self.access, self.refresh = new["access_token"], new.get("refresh_token", self.refresh)
                self.expires = time.time() + new["expires_in"]
        return self.access


@pytest.mark.parametrize("rounds", [1, 2])
@settings(max_examples=20)
@explore(workers=3)
async def test_one_owner_refreshes(claude_tokens: Any, workers: Any, rounds: int) -> None:
    """Never twice with one token, and everybody gets the same bearer."""
    owner = Owner(claude_tokens.account(expired=True))
    bearers = await workers(owner.bearer, per_worker=rounds)
    assert len({bearer for one in bearers for bearer in (one if rounds > 1 else [one])}) == 1
