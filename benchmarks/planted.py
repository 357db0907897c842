"""Six refreshers with a planted bug each, and their sound twins: plain asyncio and httpx, for any searcher.

They know nothing of what searches them. Time is the running loop's; storage is in memory, and each operation on it is
one trip through the loop. ``case.jobs(…)`` gives one coroutine function for each worker; all are to be run at once,
and what answers ``TOKEN_URL`` tells whether a refresh token was spent twice.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

import httpx

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"

Connect = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]
"""How a refresher comes to a client: ``httpx.AsyncClient`` itself makes one for each call."""
Job = Callable[[], Awaitable[object]]


def shared(client: httpx.AsyncClient) -> Connect:
    """One client for all calls."""
    return lambda: nullcontext(client)


@dataclass(frozen=True)
class Login:
    """What a client keeps. ``fresh``: its access token has not expired."""

    refresh: str
    fresh: bool = False


class Store:
    """Where the login is kept, and a folder beside it that may serve as a lease."""

    def __init__(self, refresh: str) -> None:
        self.login = Login(refresh)
        self.made: float | None = None

    async def read(self) -> Login:
        await asyncio.sleep(0)
        return self.login

    async def write(self, login: Login) -> None:
        for _ in ("a new file", "what is in it", "the disk", "its name"):
            await asyncio.sleep(0)
        self.login = login

    async def mkdir(self) -> bool:
        await asyncio.sleep(0)
        if self.made is not None:
            return False
        self.made = now()
        return True

    async def stat(self) -> float | None:
        await asyncio.sleep(0)
        return self.made

    async def rmdir(self) -> None:
        await asyncio.sleep(0)
        self.made = None


def now() -> float:
    return asyncio.get_running_loop().time()


class Refresher(ABC):
    """Looks into the store, and refreshes what has expired there. ``lock`` is the store's."""

    def __init__(self, store: Store, connect: Connect, lock: asyncio.Lock) -> None:
        self.store = store
        self.connect = connect
        self.lock = lock

    async def redeem(self, login: Login) -> Login:
        body = {"grant_type": "refresh_token", "refresh_token": login.refresh, "client_id": "benchmark"}
        async with self.connect() as client:
            response = await client.post(TOKEN_URL, json=body)
        return Login(response.raise_for_status().json()["refresh_token"], fresh=True)

    async def refresh(self) -> None:
        login = await self.store.read()
        if not login.fresh:
            await self.store.write(await self.redeem(login))

    @abstractmethod
    async def get(self) -> object:
        """Make sure that the login is fresh."""


class NoLock(Refresher):
    async def get(self) -> object:
        return await self.refresh()


class Locked(Refresher):
    async def get(self) -> object:
        async with self.lock:
            return await self.refresh()


class LockWithoutReread(Refresher):
    async def get(self) -> object:
        login = await self.store.read()
        if not login.fresh:
            async with self.lock:
                await self.store.write(await self.redeem(login))
        return None


class OwnLock(Locked):
    """Each pool has a lock of its own."""

    def __init__(self, store: Store, connect: Connect, lock: asyncio.Lock) -> None:
        super().__init__(store, connect, asyncio.Lock())


class ClearedEarly(Refresher):
    """A single flight that is over before the store is written."""

    flight: asyncio.Task[None] | None = None

    async def get(self) -> object:
        if not (await self.store.read()).fresh:
            self.flight = self.flight or asyncio.ensure_future(self.fly())
            await self.flight
        return None

    async def fly(self) -> None:
        login = await self.redeem(await self.store.read())
        self.flight = None
        await self.store.write(login)


class ClearedLast(ClearedEarly):
    async def fly(self) -> None:
        await self.refresh()
        self.flight = None


class Lease(Refresher):
    """A lease of ``stale`` seconds, made with ``mkdir``; a stale one is removed, and made anew."""

    stale = 300.0

    async def get(self) -> object:
        while not await self.store.mkdir():
            if await self.is_stale():
                await self.take_over()
            else:
                await asyncio.sleep(1)
        try:
            return await self.refresh()
        finally:
            await self.store.rmdir()

    async def is_stale(self) -> bool:
        made = await self.store.stat()
        return made is not None and made < now() - self.stale

    async def take_over(self) -> None:
        await self.store.rmdir()


class TakenOverOnce(Lease):
    """… after another look, one contender at a time."""

    async def take_over(self) -> None:
        async with self.lock:
            if await self.is_stale():
                await self.store.rmdir()


class StaleTooSoon(TakenOverOnce):
    stale = 10.0


Make = Callable[[Store, Connect, asyncio.Lock], Refresher]


@dataclass(frozen=True)
class Case:
    """A bug and its sound twin. ``pools``: over how many refreshers the workers are spread; 0: one for each.

    ``dead``: a lease is there, of somebody who died long ago.
    """

    planted: Make
    sound: Make
    pools: int = 1
    dead: bool = False
    accounts: int = 1

    def jobs(self, make: Make, refreshes: Sequence[str], connect: Connect, workers: int) -> list[Job]:
        """What each worker has to do, about a new store with the first refresh token. Call it in the running loop."""
        store = Store(refreshes[0])
        if self.dead:
            store.made = now() - 1000
        lock = asyncio.Lock()
        pools = [make(store, connect, lock) for _ in range(self.pools or workers)]
        return [pools[number % len(pools)].get for number in range(workers)]


CASES = {
    "no lock": Case(NoLock, Locked),
    "lock without re-read": Case(LockWithoutReread, Locked),
    "two pools over one store": Case(OwnLock, Locked, pools=2),
    "single flight cleared early": Case(ClearedEarly, ClearedLast),
    "double takeover of a dead lease": Case(Lease, TakenOverOnce, pools=0, dead=True),
    "stale lock under a live holder": Case(StaleTooSoon, Lease, pools=0),
}
