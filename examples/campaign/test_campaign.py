"""An ordinary test: a campaign needs no other. This one is sound, so a campaign goes on for as long as one likes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

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
                self.access, self.refresh = new["access_token"], new["refresh_token"]
                self.expires = time.time() + new["expires_in"]
        return self.access


@explore(workers=4)
async def test_one_owner_refreshes(claude_tokens: Any, workers: Any) -> None:
    """Never twice with one token."""
    owner = Owner(claude_tokens.account(expired=True))
    assert len(set(await workers(owner.bearer))) == 1
