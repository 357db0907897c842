"""What the dispatchers of the population stand on: a login, where it is kept, and the steps that it takes to get there.

They know nothing of what searches them, nor of when and where they run: that is the :class:`Site`'s, which says how
long each local step takes and over how many trips through the loop it goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.planted import TOKEN_URL, Connect, Login, now

__all__ = ["Dispatcher", "Site", "Step"]


@dataclass(frozen=True)
class Step:
    """A local step: so many trips through the loop, of so many seconds each (0: a bare yield)."""

    trips: int
    seconds: float

    async def take(self) -> None:
        for _ in range(self.trips):
            await asyncio.sleep(self.seconds)


@dataclass
class Site:
    """One account's login where it is kept, and what workers share about it. ``life``: seconds that it stays fresh."""

    login: Login
    steps: Mapping[str, Step]
    connect: Connect
    patience: float
    """Seconds after which a planted bug loses its patience, or takes a lease for stale."""
    life: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    fresh_until: float = 0.0
    generation: int = 0
    lease: float | None = None
    claim: object = None
    first: str = ""

    def __post_init__(self) -> None:
        self.first = self.login.refresh

    async def step(self, name: str) -> None:
        await self.steps[name].take()

    def is_fresh(self) -> bool:
        return self.fresh_until > now()

    async def read(self) -> Login:
        await self.step("read")
        return Login(self.login.refresh, self.is_fresh())

    async def write(self, login: Login) -> None:
        await self.step("write")
        self.login, self.fresh_until = login, now() + self.life
        self.generation += 1

    async def redeem(self, login: Login) -> Login:
        body = {"grant_type": "refresh_token", "refresh_token": login.refresh, "client_id": "population"}
        async with self.connect() as client:
            response = await client.post(TOKEN_URL, json=body)
        return Login(response.raise_for_status().json()["refresh_token"], fresh=True)

    async def refresh(self) -> None:
        """Look, and refresh what has expired: sound where nobody else is at it."""
        login = await self.read()
        if not login.fresh:
            await self.write(await self.redeem(login))


class Dispatcher:
    """Makes sure that logins are fresh, under a lock, after a look. ``others``: the sites of all accounts."""

    def __init__(self, site: Site, others: list[Site]) -> None:
        self.site = site
        self.others = others
        self.lock = site.lock

    async def get(self) -> None:
        async with self.lock:
            await self.site.refresh()
