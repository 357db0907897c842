"""The workarounds that live inside one program, as their users write them: tasks that share one or several logins."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import httpx

from pytest_claude_tokens.claude.endpoints import MESSAGES_URL, PROMPT, TOKEN_URL
from pytest_claude_tokens.workarounds.registry import workaround

if TYPE_CHECKING:
    from pytest_claude_tokens.handle.accounts import Account

__all__ = ["CheckoutPool", "DispatchQueue", "Login", "Nothing", "RoundRobin", "TokenPerWorker", "ask"]


class Login:
    """The tokens of one account. Whoever finds the access token expired refreshes it; nothing is locked here."""

    def __init__(self, account: Account) -> None:
        self.access: str = account.access_token
        self.refresh: str | None = account.refresh_token
        self.expires: float = account.expires_at

    async def bearer(self) -> str:
        """A bearer that has not expired."""
        if time.time() >= self.expires:
            body = {"grant_type": "refresh_token", "refresh_token": self.refresh, "client_id": "workaround"}
            async with httpx.AsyncClient(timeout=600) as client:
                new = (await client.post(TOKEN_URL, json=body)).raise_for_status().json()
            self.access, self.refresh = new["access_token"], new["refresh_token"]
            self.expires = time.time() + new["expires_in"]
        return self.access


async def ask(bearer: str) -> None:
    """One job: a prompt, and its answer read to the end."""
    async with httpx.AsyncClient(timeout=600) as client:
        reply = await client.post(MESSAGES_URL, headers={"Authorization": f"Bearer {bearer}"}, json=PROMPT)
        reply.raise_for_status()


@workaround("none", accounts=1)
class Nothing:
    """One login, and nobody looks out for anybody."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.login: Login = Login(accounts[0])

    async def call(self) -> None:
        await ask(await self.login.bearer())


@workaround("round-robin-tokens")
class RoundRobin:
    """Each job takes the next token in turn, such as those of `claude setup-token`, whoever may be using it still."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.turn: Iterator[str] = itertools.cycle([account.access_token for account in accounts])

    async def call(self) -> None:
        await ask(next(self.turn))


@workaround("token-per-worker", accounts=3)
class TokenPerWorker:
    """Each worker takes a login of its own when it first needs one, and keeps it."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.unused: list[Login] = [Login(account) for account in accounts]
        self.mine: dict[asyncio.Task[object] | None, Login] = {}

    async def call(self) -> None:
        worker = asyncio.current_task()
        if worker not in self.mine:
            self.mine[worker] = self.unused.pop()
        await ask(await self.mine[worker].bearer())


@workaround("checkout-pool")
class CheckoutPool:
    """Each job takes a login that is free, waiting for one if need be, and gives it back when it has ended."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.free: asyncio.Queue[Login] = asyncio.Queue()
        for account in accounts:
            self.free.put_nowait(Login(account))

    async def call(self) -> None:
        login = await self.free.get()
        try:
            await ask(await login.bearer())
        finally:
            self.free.put_nowait(login)


@workaround("dispatch-queue", accounts=1)
class DispatchQueue:
    """One login, and one job at a time: the others wait in line."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.login: Login = Login(accounts[0])
        self.turn: asyncio.Lock = asyncio.Lock()

    async def call(self) -> None:
        async with self.turn:
            await ask(await self.login.bearer())
