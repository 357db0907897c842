"""Asynchronous dispatchers that go wrong only in one order of several steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from fake_server import Policy
from pytest_claude_tokens.violations import DoubleSpend, LostRotation, TokenLeak
from tests.zoo.common import Body, Login, LoginFile, Pair, named, redeem


class Client(Protocol):
    """What every worker asks for its bearer."""

    async def ask(self) -> object: ...


# What is written.


class ForgetsTheRefreshToken:
    """Stores the new access token, and leaves the old refresh token where it is."""

    def __init__(self, store: LoginFile) -> None:
        self.store = store
        self.lock = asyncio.Lock()

    async def ask(self) -> object:
        async with self.lock:
            login = self.store.read()
            if login.expired:
                new = await redeem(login.refresh)
                self.store.write(Login(new.access, self.kept(login, new), new.expires))
        return self.store.read().access

    def kept(self, old: Login, new: Login) -> str:
        return old.refresh


class StoresBoth(ForgetsTheRefreshToken):
    """… stores both."""

    def kept(self, old: Login, new: Login) -> str:
        return new.refresh


class LetsOthersRead(StoresBoth):
    """Writes the file and its folders as the umask wants them."""

    async def ask(self) -> object:
        bearer = await super().ask()
        self.store.path.chmod(0o644)
        for folder in self.store.path.parents[:4]:  # up to the handle's own
            folder.chmod(0o755)
        return bearer


class SkipsASave:
    """Keeps the login in memory, and saves it beside the work; while one save is under way, no other one starts.

    The store is a slow one. The workers come one after the other.
    """

    def __init__(self, store: LoginFile) -> None:
        self.store = store
        self.login = store.read()
        self.lock = asyncio.Lock()
        self.saving = False
        self.came = 0

    async def ask(self) -> object:
        self.came += 1
        await asyncio.sleep(2 * (self.came - 1))
        async with self.lock:
            if self.login.expired:
                self.login = await redeem(self.login.refresh)
        await self.save()
        return self.login.access

    async def save(self) -> None:
        if self.saving:
            return
        self.saving = True
        await self.write(self.login)
        self.saving = False

    async def write(self, login: Login) -> None:
        await asyncio.sleep(1.5)
        self.store.write(login)


class SavesOnceMore(SkipsASave):
    """… but the one under way goes on until what it has saved is the newest."""

    async def save(self) -> None:
        if self.saving:
            return
        self.saving = True
        saved = None
        while saved is not self.login:
            saved = self.login
            await self.write(saved)
        self.saving = False


def over_file(make: Callable[[LoginFile], Client], *, per_worker: int = 1) -> Body:
    """Everybody needs a bearer, and the one in the file has expired."""

    async def over_file(claude_tokens: Any, workers: Any) -> None:
        client = make(LoginFile(claude_tokens.config_dir(claude_tokens.account(expired=True))))
        await workers(client.ask, per_worker=per_worker)

    return named(over_file, make, per_worker)


# A login in a database: each of its operations is a round trip.


class Database:
    """Keys and values, read and set one at a time."""

    def __init__(self, login: Login) -> None:
        self.rows: dict[str, Any] = {"login": login, "generation": 0, "expires": login.expires, "lock": None}

    async def get(self, key: str) -> Any:
        await asyncio.sleep(0)
        return self.rows[key]

    async def set(self, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        self.rows[key] = value

    async def lock(self) -> None:
        while not await self.try_lock():
            await asyncio.sleep(1)

    async def try_lock(self) -> bool:
        await asyncio.sleep(0)
        if self.rows["lock"]:
            return False
        self.rows["lock"] = True
        return True

    async def unlock(self) -> None:
        await self.set("lock", None)


class TwoSlots:
    """Keeps the login in two slots by turns. Takes it for unchanged when the slot is that which it read before.

    Two refreshes later it is: A, B, A.
    """

    slots = 2

    def __init__(self, database: Database) -> None:
        self.database = database

    async def ask(self) -> object:
        while True:
            generation = await self.database.get("generation")
            login: Login = await self.database.get("login")
            if not login.expired:
                await asyncio.sleep(6)  # the work that the bearer is for
                return login.access
            await self.database.lock()
            try:
                if await self.database.get("generation") == generation:
                    await self.database.set("login", await redeem(login.refresh))
                    await self.database.set("generation", (generation + 1) % self.slots)
            finally:
                await self.database.unlock()


class Counted(TwoSlots):
    """… counts on."""

    slots = 1_000_000


class SaysSoEarly:
    """The leader says that the refresh is over, and then writes; a follower has one chance to be quick.

    It may go on by itself where the generation is new and the lock is free. So it takes an old login for a new one if
    it reads the generation just after it was written, the login just before that is, and the lock just after the end:
    in default order it misses all three.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.over = asyncio.Event()

    async def ask(self) -> object:
        if await self.database.try_lock():
            await self.lead()
        elif not await self.follow():
            await self.database.lock()
            await self.lead()
        return (await self.database.get("login")).access

    async def lead(self) -> None:
        await self.refresh(await self.database.get("login"))

    async def refresh(self, login: Login) -> None:
        try:
            if login.expired:
                await self.write(await redeem(login.refresh))
        finally:
            await self.database.unlock()

    async def write(self, new: Login) -> None:
        generation = await self.database.get("generation")
        self.over.set()
        await asyncio.sleep(0)
        await self.database.set("generation", generation + 1)
        await self.database.set("login", new)

    async def follow(self) -> bool:
        database = self.database
        generation = await database.get("generation")
        await self.over.wait()
        if await database.get("generation") == generation:
            return False
        login: Login = await database.get("login")
        if not await database.try_lock():
            return False
        await self.refresh(login)
        return True


class SaysSoLast(SaysSoEarly):
    """The leader writes the login first, and says last that it is over."""

    async def write(self, new: Login) -> None:
        generation = await self.database.get("generation")
        await self.database.set("login", new)
        await self.database.set("generation", generation + 1)
        self.over.set()


def in_database(make: Callable[[Database], Client], *, per_worker: int = 1) -> Body:
    """Everybody needs a bearer, and the one in the database has expired."""

    async def in_database(claude_tokens: Any, workers: Any) -> None:
        credentials = claude_tokens.account(expired=True).credentials
        await workers(make(Database(Login.of(credentials))).ask, per_worker=per_worker)

    return named(in_database, make, per_worker)


PAIRS = [
    Pair(
        name="refresh token not stored",
        invariant=LostRotation,
        planted=over_file(ForgetsTheRefreshToken),
        sound=over_file(StoresBoth),
    ),
    Pair(
        name="file that others may read",
        invariant=TokenLeak,
        planted=over_file(LetsOthersRead),
        sound=over_file(StoresBoth),
        workers=2,
    ),
    Pair(
        name="save skipped while another is under way",
        invariant=LostRotation,
        planted=over_file(SkipsASave),
        sound=over_file(SavesOnceMore),
        workers=2,
        handle={"policy": Policy(expires_in=0.5)},
    ),
    Pair(
        name="A, B, A on a generation counter",
        invariant=DoubleSpend,
        planted=in_database(TwoSlots, per_worker=3),
        sound=in_database(Counted, per_worker=3),
        workers=3,
        handle={"policy": Policy(expires_in=5)},
    ),
    Pair(
        name="three preemptions in order",
        invariant=DoubleSpend,
        planted=in_database(SaysSoEarly),
        sound=in_database(SaysSoLast),
        workers=3,
        schedules=4000,
    ),
]
