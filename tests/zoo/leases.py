"""Refreshers under a lease: a lock made with ``mkdir``, as Claude Code's own; in threads, and in tasks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_claude_tokens.violations import DoubleSpend
from tests.zoo.common import Body, Login, LoginFile, Pair, named, redeem, redeem_now


class Folder:
    """Whoever makes this folder has the lease; it is stale when it is older than ``stale`` seconds."""

    def __init__(self, path: str, stale: float) -> None:
        self.path = path
        self.stale = stale

    def make(self) -> bool:
        try:
            os.mkdir(self.path)
        except FileExistsError:
            return False
        with suppress(FileNotFoundError):  # it was taken over already
            os.utime(self.path, (time.time(), time.time()))
        return True

    def is_stale(self) -> bool:
        try:
            return os.stat(self.path).st_mtime < time.time() - self.stale
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            os.rmdir(self.path)


def expired_login(claude_tokens: Any, *, dead: bool) -> LoginFile:
    """A store whose access token has expired. A dead worker may have left its lease behind."""
    store = LoginFile(claude_tokens.config_dir(claude_tokens.account(expired=True)))
    if dead:
        lease = f"{store.path}.lock"
        os.mkdir(lease)
        os.utime(lease, (time.time() - 600, time.time() - 600))
    return store


# In threads.


class DirectoryLock:
    """Whoever finds the lease older than 150 s removes it, and tries again."""

    stale = 150.0

    def __init__(self, store: LoginFile, number: int) -> None:
        self.store = store
        path = self.place(store.path, number)
        self.lease = Folder(path, self.stale)
        self.second = Folder(f"{path}.takeover", self.stale)

    def place(self, path: Path, number: int) -> str:
        return f"{path}.lock"

    def ask(self) -> object:
        while not self.lease.make():
            if self.lease.is_stale():
                self.take_over()
            else:
                time.sleep(1)
        try:
            login = self.store.read()
            if login.expired:
                login = redeem_now(login.refresh)
                self.store.write(login)
        finally:
            self.lease.remove()
        return login.access

    def take_over(self) -> None:
        self.lease.remove()


class TakesOverOneByOne(DirectoryLock):
    """… and looks again under a second lease, which is for taking over only."""

    def take_over(self) -> None:
        if not self.second.make():
            time.sleep(1)
            return
        try:
            if self.lease.is_stale():
                self.lease.remove()
        finally:
            self.second.remove()


class StaleTooSoon(TakesOverOneByOne):
    """… with 10 s instead, which a slow holder may need."""

    stale = 10.0


class LockAtHome(TakesOverOneByOne):
    """Each worker has a home of its own; the store is shared, but the lease is made at home."""

    def place(self, path: Path, number: int) -> str:
        home = path.parent / f"home-{number}"
        home.mkdir()
        return f"{home}/lock"


def under_directory_lock(make: Callable[[LoginFile, int], DirectoryLock], *, dead: bool = False) -> Body:
    """Each worker has a client of its own, as processes would."""

    def under_directory_lock(claude_tokens: Any, workers: Any) -> None:
        store = expired_login(claude_tokens, dead=dead)
        workers(*(make(store, number).ask for number in range(len(workers))))

    return named(under_directory_lock, make, dead)


# In tasks: each file operation in a thread.


class Lease:
    """Whoever finds the lease older than 150 s removes it, and tries again."""

    stale = 150.0

    def __init__(self, store: LoginFile) -> None:
        self.store = store
        self.lease = Folder(f"{store.path}.lock", self.stale)
        self.second = Folder(f"{store.path}.lock.takeover", self.stale)

    async def ask(self) -> object:
        while not await asyncio.to_thread(self.lease.make):
            if await asyncio.to_thread(self.lease.is_stale):
                await self.take_over()
            else:
                await asyncio.sleep(1)
        try:
            login: Login = await asyncio.to_thread(self.store.read)
            if login.expired:
                login = await redeem(login.refresh)
                await asyncio.to_thread(self.store.write, login)
        finally:
            await asyncio.to_thread(self.lease.remove)
        return login.access

    async def take_over(self) -> None:
        await asyncio.to_thread(self.lease.remove)


class TakenOverOnce(Lease):
    """… after another look, under a second lease that is for taking over only."""

    async def take_over(self) -> None:
        if not await asyncio.to_thread(self.second.make):
            await asyncio.sleep(1)
            return
        try:
            if await asyncio.to_thread(self.lease.is_stale):
                await asyncio.to_thread(self.lease.remove)
        finally:
            await asyncio.to_thread(self.second.remove)


class LeaseStaleTooSoon(TakenOverOnce):
    """… with 10 s instead, which a slow holder may need."""

    stale = 10.0


def under_lease(make: Callable[[LoginFile], Lease], *, dead: bool = False) -> Body:
    """Each worker has a client of its own, as processes would."""

    async def under_lease(claude_tokens: Any, workers: Any) -> None:
        store = expired_login(claude_tokens, dead=dead)
        await workers(*(make(store).ask for _ in range(len(workers))))

    return named(under_lease, make, dead)


PAIRS = [
    Pair(
        name="double takeover of a dead lease",
        invariant=DoubleSpend,
        planted=under_lease(Lease, dead=True),
        sound=under_lease(TakenOverOnce, dead=True),
        workers=3,
    ),
    Pair(
        name="stale takeover of a live holder",
        invariant=DoubleSpend,
        planted=under_lease(LeaseStaleTooSoon),
        sound=under_lease(TakenOverOnce),
        workers=2,
    ),
    Pair(
        name="threads: double takeover of a dead lock",
        invariant=DoubleSpend,
        planted=under_directory_lock(DirectoryLock, dead=True),
        sound=under_directory_lock(TakesOverOneByOne, dead=True),
        workers=3,
    ),
    Pair(
        name="threads: stale takeover of a live holder",
        invariant=DoubleSpend,
        planted=under_directory_lock(StaleTooSoon),
        sound=under_directory_lock(TakesOverOneByOne),
        workers=2,
    ),
    Pair(
        name="threads: lock in a private home",
        invariant=DoubleSpend,
        planted=under_directory_lock(LockAtHome),
        sound=under_directory_lock(TakesOverOneByOne),
        workers=2,
    ),
]
