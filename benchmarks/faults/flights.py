"""One refreshes for all: leaders, flags, retries and refreshers in the background, each with its sound twin."""

from __future__ import annotations

import asyncio

from benchmarks.faults.site import Dispatcher, Login, Site


class ClearedEarly(Dispatcher):
    flight: asyncio.Task[None] | None = None

    async def get(self) -> None:
        if not (await self.site.read()).fresh:
            self.flight = self.flight or asyncio.ensure_future(self.fly())
            await self.flight

    async def fly(self) -> None:
        login = await self.site.redeem(await self.site.read())
        self.flight = None
        await self.site.write(login)


class ClearedLast(ClearedEarly):
    async def fly(self) -> None:
        await self.site.refresh()
        self.flight = None


class Flagged(Dispatcher):
    """One refreshes, and the others wait for an event."""

    busy = False

    def __init__(self, site: Site, others: list[Site]) -> None:
        super().__init__(site, others)
        self.done = asyncio.Event()

    async def get(self) -> None:
        while not (await self.site.read()).fresh:
            if self.busy:
                await self.done.wait()
                continue
            await self.begin()
            try:
                await self.site.refresh()
            finally:
                self.busy = False
                self.done.set()

    async def begin(self) -> None:
        self.busy = True
        self.done = asyncio.Event()
        await self.site.step("think")


class FlaggedLate(Flagged):
    """… but the flag is set after another step."""

    async def begin(self) -> None:
        await self.site.step("think")
        self.busy = True
        self.done = asyncio.Event()


class Resent(Dispatcher):
    """Gives a request up after a while, and sends it again: the first may have been served."""

    async def get(self) -> None:
        async with self.lock:
            login = await self.site.read()
            if not login.fresh:
                await self.site.write(await self.patiently(login))

    async def patiently(self, login: Login) -> Login:
        while True:
            try:
                return await asyncio.wait_for(self.site.redeem(login), self.site.patience)
            except TimeoutError:
                await asyncio.sleep(0.5)


class Background(Dispatcher):
    """A refresher in the background beside that on demand, and only one of the two takes the lock."""

    task: asyncio.Task[None] | None = None

    async def get(self) -> None:
        self.task = self.task or asyncio.ensure_future(self.behind())
        await self.site.step("think")
        async with self.lock:
            await self.site.refresh()
        await self.task

    async def behind(self) -> None:
        await asyncio.sleep(self.site.patience / 10)
        await self.site.refresh()


class BackgroundLocked(Background):
    async def behind(self) -> None:
        await asyncio.sleep(self.site.patience / 10)
        async with self.lock:
            await self.site.refresh()


class LeaderGivesUp(Dispatcher):
    """The first one's own call is the flight of all: when it gives up, the next one sends the same token again."""

    flight: asyncio.Future[None] | None = None

    async def get(self) -> None:
        while not (await self.site.read()).fresh:
            if self.flight is not None:
                await asyncio.wait([self.flight])
                continue
            self.flight = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self.site.refresh(), self.limit())
            except TimeoutError:
                pass
            finally:
                flight, self.flight = self.flight, None
                flight.set_result(None)

    def limit(self) -> float | None:
        return self.site.patience


class LeaderStays(LeaderGivesUp):
    def limit(self) -> float | None:
        return None
