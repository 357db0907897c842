"""Leases and claims in a store, each with its sound twin."""

from __future__ import annotations

import asyncio

from benchmarks.faults.site import Dispatcher, now


class Lease(Dispatcher):
    """A lease; a stale one is removed, and made anew."""

    def stale(self) -> float:
        return 300.0

    async def make(self) -> bool:
        await self.site.step("mkdir")
        if self.site.lease is not None:
            return False
        self.site.lease = now()
        return True

    async def remove(self) -> None:
        await self.site.step("rmdir")
        self.site.lease = None

    async def is_stale(self) -> bool:
        await self.site.step("stat")
        return self.site.lease is not None and self.site.lease < now() - self.stale()

    async def get(self) -> None:
        while not await self.make():
            if await self.is_stale():
                await self.take_over()
            else:
                await asyncio.sleep(1)
        try:
            await self.refresh()
        finally:
            await self.remove()

    async def refresh(self) -> None:
        await self.site.refresh()

    async def take_over(self) -> None:
        await self.remove()


class TakenOverOnce(Lease):
    async def take_over(self) -> None:
        async with self.lock:
            if await self.is_stale():
                await self.remove()


class StaleTooSoon(TakenOverOnce):
    def stale(self) -> float:
        return self.site.patience


class Claimed(Dispatcher):
    """Writes its name into the store, waits a moment, and refreshes if the name is still there. Others wait."""

    async def get(self) -> None:
        while not (await self.site.read()).fresh:
            if self.site.claim is None and await self.claims():
                try:
                    await self.site.refresh()
                finally:
                    self.site.claim = None
            else:
                await asyncio.sleep(1)

    async def claims(self) -> bool:
        me = object()
        await self.site.step("mkdir")
        self.site.claim = me
        await self.site.step("stat")
        return self.site.claim is me


class ClaimedAtOnce(Claimed):
    """… which nobody overwrites."""

    async def claims(self) -> bool:
        me = object()
        await self.site.step("mkdir")
        self.site.claim = self.site.claim or me
        await self.site.step("stat")
        return self.site.claim is me


class Renewed(TakenOverOnce):
    """A short lease, which its holder renews: before the request, and after it."""

    def stale(self) -> float:
        return self.site.patience

    async def refresh(self) -> None:
        login = await self.site.read()
        if not login.fresh:
            self.site.lease = now()
            new = await self.site.redeem(login)
            self.site.lease = now()
            await self.site.write(new)
