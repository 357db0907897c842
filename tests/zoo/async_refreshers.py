"""Asynchronous refreshers: several tasks share one login, and it has to be refreshed once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx2

from pytest_claude_tokens.violations import DoubleSpend
from tests.zoo.common import TOKEN_URL, Body, Login, LoginFile, Pair, named, redeem, token_request


class Refresher(Protocol):
    """What every worker asks for its bearer."""

    async def bearer(self) -> str: ...


# In memory.


class NoLock:
    """Whoever finds the access token expired refreshes it."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        self.login = Login.of(credentials)
        self.lock = asyncio.Lock()

    async def bearer(self) -> str:
        if self.login.expired:
            self.login = await redeem(self.login.refresh)
        return self.login.access


class Locked(NoLock):
    """Looks again when it has the lock."""

    async def bearer(self) -> str:
        async with self.lock:
            return await super().bearer()


class LockWithoutReread(NoLock):
    """Reads before the lock, and refreshes what it read."""

    async def bearer(self) -> str:
        login = self.login
        if login.expired:
            async with self.lock:
                self.login = await redeem(login.refresh)
        return self.login.access


class GivesUpWaiting(NoLock):
    """Waits for the lock for 7.5 s, and then goes on without it."""

    async def bearer(self) -> str:
        try:
            await asyncio.wait_for(self.lock.acquire(), 7.5)
        except TimeoutError:
            return await super().bearer()
        try:
            return await super().bearer()
        finally:
            self.lock.release()


class WaitsAgain(NoLock):
    """Waits for the lock for 7.5 s, and then looks whether it still has to."""

    async def bearer(self) -> str:
        while self.login.expired:
            try:
                await asyncio.wait_for(self.lock.acquire(), 7.5)
            except TimeoutError:
                continue
            try:
                return await super().bearer()
            finally:
                self.lock.release()
        return self.login.access


def in_memory(make: Callable[[Mapping[str, Any]], Refresher]) -> Body:
    """Everybody needs a bearer at once, and the one in memory has expired."""

    async def in_memory(claude_tokens: Any, workers: Any) -> None:
        refresher = make(claude_tokens.account(expired=True).credentials)
        await workers(refresher.bearer)

    return named(in_memory, make)


# Over a file.


class OwnLock:
    """Looks again under the lock, but each pool has a lock of its own."""

    def __init__(self, store: LoginFile, lock: asyncio.Lock) -> None:
        self.store = store
        self.lock = asyncio.Lock()

    async def bearer(self) -> str:
        async with self.lock:
            login = self.store.read()
            if login.expired:
                login = await redeem(login.refresh)
                self.store.write(login)
        return login.access


class LockOfStore(OwnLock):
    """All pools over one store share its lock."""

    def __init__(self, store: LoginFile, lock: asyncio.Lock) -> None:
        super().__init__(store, lock)
        self.lock = lock


class ThreadLockOfItsOwn:
    """Refreshes in a thread, under a ``threading.Lock`` of its own, as a client object of an SDK does."""

    def __init__(self, store: LoginFile, lock: threading.Lock) -> None:
        self.store = store
        self.lock = threading.Lock()

    async def bearer(self) -> str:
        return await asyncio.to_thread(self.fetch)

    def fetch(self) -> str:
        with self.lock:
            login = self.store.read()
            if login.expired:
                with httpx2.Client() as client:
                    reply = client.post(TOKEN_URL, json=token_request(login.refresh))
                login = Login.from_reply(reply.raise_for_status().json())
                self.store.write(login)
        return login.access


class ThreadLockOfStore(ThreadLockOfItsOwn):
    """… under the store's lock."""

    def __init__(self, store: LoginFile, lock: threading.Lock) -> None:
        super().__init__(store, lock)
        self.lock = lock


def two_pools(make: Callable[[LoginFile, Any], Refresher], *, in_threads: bool = False) -> Body:
    """Two pools over one file; every other worker uses the second one."""

    async def two_pools(claude_tokens: Any, workers: Any) -> None:
        store = LoginFile(claude_tokens.config_dir(claude_tokens.account(expired=True)))
        shared = threading.Lock() if in_threads else asyncio.Lock()
        pools = make(store, shared), make(store, shared)
        await workers(*(pools[n % 2].bearer for n in range(len(workers))))

    return named(two_pools, make, in_threads)


# Single flight.


class ClearedEarly:
    """One refresh for all who ask meanwhile; it is over before the file has the new login."""

    def __init__(self, store: LoginFile) -> None:
        self.store = store
        self.flight: asyncio.Task[Login] | None = None

    async def bearer(self) -> str:
        login = await asyncio.to_thread(self.store.read)
        if not login.expired:
            return login.access
        if self.flight is None:
            self.flight = asyncio.create_task(self.fly())
        return (await self.flight).access

    async def fly(self) -> Login:
        login = await redeem(self.store.read().refresh)
        self.flight = None
        await asyncio.to_thread(self.store.write, login)
        return login


class ClearedLast(ClearedEarly):
    """… it is over when the file has it. The flight itself looks whether it is needed."""

    async def fly(self) -> Login:
        login = self.store.read()
        try:
            if login.expired:
                login = await redeem(login.refresh)
                await asyncio.to_thread(self.store.write, login)
            return login
        finally:
            self.flight = None


def over_file(make: Callable[[LoginFile], Refresher], *, per_worker: int = 1) -> Body:
    """Everybody needs a bearer, and the one in the file has expired."""

    async def over_file(claude_tokens: Any, workers: Any) -> None:
        refresher = make(LoginFile(claude_tokens.config_dir(claude_tokens.account(expired=True))))
        await workers(refresher.bearer, per_worker=per_worker)

    return named(over_file, make, per_worker)


PAIRS = [
    Pair(name="no lock", invariant=DoubleSpend, planted=in_memory(NoLock), sound=in_memory(Locked)),
    Pair(
        name="lock without re-read",
        invariant=DoubleSpend,
        planted=in_memory(LockWithoutReread),
        sound=in_memory(Locked),
    ),
    Pair(
        name="lock time-out, then proceed",
        invariant=DoubleSpend,
        planted=in_memory(GivesUpWaiting),
        sound=in_memory(WaitsAgain),
    ),
    Pair(
        name="two pools over one store",
        invariant=DoubleSpend,
        planted=two_pools(OwnLock),
        sound=two_pools(LockOfStore),
    ),
    Pair(
        name="refresh in a thread under a lock of its own",
        invariant=DoubleSpend,
        planted=two_pools(ThreadLockOfItsOwn, in_threads=True),
        sound=two_pools(ThreadLockOfStore, in_threads=True),
    ),
    Pair(
        name="single flight cleared early",
        invariant=DoubleSpend,
        planted=over_file(ClearedEarly),
        sound=over_file(ClearedLast),
    ),
]
