"""Locks that do not cover what they should, each with its sound twin."""

from __future__ import annotations

import asyncio

from benchmarks.faults.site import Dispatcher, Login, Site, now


class NoLock(Dispatcher):
    async def get(self) -> None:
        await self.site.refresh()


class NoReread(Dispatcher):
    async def get(self) -> None:
        login = await self.site.read()
        if not login.fresh:
            async with self.lock:
                await self.site.write(await self.site.redeem(login))


class OwnLock(Dispatcher):
    def __init__(self, site: Site, others: list[Site]) -> None:
        super().__init__(site, others)
        self.lock = asyncio.Lock()


class Impatient(Dispatcher):
    """Goes on without the lock when it has waited long enough."""

    async def get(self) -> None:
        try:
            await asyncio.wait_for(self.lock.acquire(), self.site.patience)
        except TimeoutError:
            await self.site.refresh()
            return
        try:
            await self.site.refresh()
        finally:
            self.lock.release()


class LazyLock(Dispatcher):
    """Makes its lock when it is first needed, from settings that it has to load."""

    made: asyncio.Lock | None = None

    async def get(self) -> None:
        if self.made is None:
            await self.site.step("think")
            self.set()
        assert self.made is not None
        async with self.made:
            await self.site.refresh()

    def set(self) -> None:
        self.made = asyncio.Lock()


class LazyLockOnce(LazyLock):
    def set(self) -> None:
        self.made = self.made or asyncio.Lock()


class Checkout(Dispatcher):
    """Checks an account out of a pool: which one, it keeps where the next worker overwrites it."""

    turn = 0
    mine = 0

    async def get(self) -> None:
        self.turn += 1
        self.mine = chosen = self.turn % len(self.others)
        async with self.others[chosen].lock:
            await self.site.step("think")
            await self.others[self.picked(chosen)].refresh()

    def picked(self, chosen: int) -> int:
        return self.mine


class CheckoutLocal(Checkout):
    def picked(self, chosen: int) -> int:
        return chosen


class WrittenOutside(Dispatcher):
    """The store is written when the lock has been let go."""

    async def get(self) -> None:
        async with self.lock:
            login = await self.site.read()
            new = None if login.fresh else await self.site.redeem(login)
        if new is not None:
            await self.site.write(new)


class TornStore(Dispatcher):
    """Readers that take no lock meet a store that is being written, and begin again with the login of the settings."""

    torn = False

    async def get(self) -> None:
        if self.torn:
            await self.fall_back()
        async with self.lock:
            login = await self.site.read()
            if not login.fresh:
                new = await self.site.redeem(login)
                self.torn = True
                await self.site.write(new)
                await self.site.step("think")
                self.torn = False

    async def fall_back(self) -> None:
        await self.site.write(await self.site.redeem(Login(self.site.first)))


class TornStoreWaits(TornStore):
    async def fall_back(self) -> None:
        pass


class TwoSlots(Dispatcher):
    """A semaphore of two where one was meant."""

    async def get(self) -> None:
        async with self.site.slots:
            await self.site.refresh()


class NextWhenBusy(Dispatcher):
    """Takes the account whose turn it is; if that is locked, the next one, whose lock it does not look at."""

    turn = 0

    async def get(self) -> None:
        self.turn += 1
        site = self.others[self.turn % len(self.others)]
        if site.lock.locked():
            await self.go_on(self.others[(self.turn + 1) % len(self.others)])
            return
        async with site.lock:
            await site.refresh()

    async def go_on(self, site: Site) -> None:
        await site.step("think")
        await site.refresh()


class NextWhenBusyLocked(NextWhenBusy):
    async def go_on(self, site: Site) -> None:
        await site.step("think")
        async with site.lock:
            await site.refresh()


class Debounced(Dispatcher):
    """Refreshes with the login that its call failed with, unless somebody has refreshed a moment ago."""

    async def get(self) -> None:
        login = await self.site.read()
        if login.fresh:
            return
        await self.site.step("think")  # the call that fails
        async with self.lock:
            if not self.is_new(login):
                await self.site.write(await self.site.redeem(login))

    def is_new(self, login: Login) -> bool:
        return self.site.fresh_until > 0 and self.site.fresh_until - self.site.life > now() - self.site.patience


class DebouncedByToken(Debounced):
    def is_new(self, login: Login) -> bool:
        return self.site.login.refresh != login.refresh


class SameParity(Dispatcher):
    """ABA: it looks whether the generation has changed since, of which the store keeps the last bit."""

    async def get(self) -> None:
        login, before = await self.site.read(), self.site.generation
        if login.fresh:
            return
        await self.site.step("think")
        async with self.lock:
            if self.is_same(before, self.site.generation):
                await self.site.write(await self.site.redeem(login))

    def is_same(self, before: int, after: int) -> bool:
        return before % 2 == after % 2


class SameGeneration(SameParity):
    def is_same(self, before: int, after: int) -> bool:
        return before == after
