"""Workarounds of a user, as a plugin file: one whose bug shows only where somebody waits, and its sound twin."""

from __future__ import annotations

import asyncio

import httpx

from pytest_claude_tokens.workarounds import workaround

URL = "https://api.anthropic.com/v1/messages"
PROMPT = {"model": "claude-fake", "max_tokens": 8, "messages": [{"role": "user", "content": "Reply: done"}]}


async def ask(account):
    """A prompt with the account's bearer."""
    async with httpx.AsyncClient(timeout=600) as client:
        await client.post(URL, headers={"Authorization": f"Bearer {account.access_token}"}, json=PROMPT)


@workaround("patient")
class Patient:
    """Waits for a free account as long as it takes."""

    def __init__(self, accounts):
        self.accounts = accounts
        self.free = asyncio.Queue()
        for account in accounts:
            self.free.put_nowait(account)

    async def call(self):
        account = await self.free.get()
        try:
            await ask(account)
        finally:
            self.free.put_nowait(account)


@workaround("impatient")
class Impatient(Patient):
    """Waits for half a minute, and then takes one that somebody has."""

    async def call(self):
        try:
            async with asyncio.timeout(30):
                account = await self.free.get()
        except TimeoutError:
            await ask(self.accounts[0])
            return
        await ask(account)
        self.free.put_nowait(account)
