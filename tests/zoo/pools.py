"""Asynchronous pools: several bearers, several workers, and no bearer may serve two of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import httpx
import httpx2

from fake_server import Fault
from pytest_claude_tokens.violations import CoSchedule
from tests.zoo.common import CALL_URL, HELLO_URL, MESSAGE, STREAMED, Body, Pair, bearer_header, named


class Pool(Protocol):
    """What every worker has its calls made by."""

    async def call(self) -> object: ...


class Free:
    """The bearers, and which of them are free; calls are made by one shared client."""

    def __init__(self, bearers: Sequence[str], client: httpx.AsyncClient) -> None:
        self.free = list(bearers)
        self.back = asyncio.Condition()
        self.client = client

    async def post(self, bearer: str) -> httpx.Response:
        return await self.client.post(CALL_URL, headers=bearer_header(bearer), json=MESSAGE)

    async def give_back(self, bearer: str) -> None:
        async with self.back:
            self.free.append(bearer)
            self.back.notify()

    async def call(self) -> object:
        async with self.back:
            await self.back.wait_for(lambda: self.free)
            bearer = self.free.pop(0)
        try:
            return await self.post(bearer)
        finally:
            await self.give_back(bearer)


class PicksThenTakes(Free):
    """Picks a free bearer, sees whether the service is up, and takes the bearer then."""

    async def call(self) -> object:
        async with self.back:
            await self.back.wait_for(lambda: self.free)
            bearer = self.free[0]
        await self.client.get(HELLO_URL)
        if bearer in self.free:
            self.free.remove(bearer)
        try:
            return await self.post(bearer)
        finally:
            await self.give_back(bearer)


class NoSecondLook(Free):
    """Waits for a notification once, and takes it for a bearer. A newcomer may have been faster."""

    def __init__(self, bearers: Sequence[str], client: httpx.AsyncClient) -> None:
        super().__init__(bearers, client)
        self.bearers = list(bearers)

    async def call(self) -> object:
        async with self.back:
            if not self.free:
                await self.back.wait()
            bearer = self.free.pop(0) if self.free else self.bearers[0]
        try:
            return await self.post(bearer)
        finally:
            await self.give_back(bearer)


class StreamOutlivesPermit:
    """One permit for one bearer; it is given back when the reply's head has come, and the body is read after that."""

    def __init__(self, bearers: Sequence[str], client: httpx.AsyncClient) -> None:
        self.bearer = bearers[0]
        self.permit = asyncio.Semaphore(1)
        self.client = client

    def request(self) -> httpx.Request:
        return self.client.build_request("POST", CALL_URL, headers=bearer_header(self.bearer), json=STREAMED)

    async def call(self) -> object:
        async with self.permit:
            response = await self.client.send(self.request(), stream=True)
        text = await response.aread()
        await response.aclose()
        return text


class StreamUnderPermit(StreamOutlivesPermit):
    """… or reads the body under it."""

    async def call(self) -> object:
        async with self.permit:
            response = await self.client.send(self.request(), stream=True)
            text = await response.aread()
            await response.aclose()
        return text


class LockPerName:
    """A lock for each name in the configuration. Two names may mean one token."""

    def __init__(self, bearers: Sequence[str], client: httpx.AsyncClient) -> None:
        names = {"work": bearers[0], "home": bearers[-1], "backup": bearers[0]}
        self.lanes = [(bearer, asyncio.Lock()) for bearer in self.keys(names)]
        self.client = client
        self.turn = 0

    def keys(self, names: dict[str, str]) -> list[str]:
        return list(names.values())

    async def call(self) -> object:
        bearer, lock = self.lanes[self.turn % len(self.lanes)]
        self.turn += 1
        async with lock:
            return await self.client.post(CALL_URL, headers=bearer_header(bearer), json=MESSAGE)


class LockPerToken(LockPerName):
    """A lock for each token."""

    def keys(self, names: dict[str, str]) -> list[str]:
        return list(dict.fromkeys(names.values()))


class RoundRobin:
    """Each call takes the next bearer. With as many bearers as workers that goes well until a call outlives a round."""

    def __init__(self, bearers: Sequence[str], client: httpx.AsyncClient) -> None:
        self.bearers = list(bearers)
        self.client = client
        self.turn = 0

    async def call(self) -> object:
        bearer = self.bearers[self.turn % len(self.bearers)]
        self.turn += 1
        return await self.client.post(CALL_URL, headers=bearer_header(bearer), json=MESSAGE)


class Queued:
    """A queue of free bearers, and an httpx2 client for each call."""

    def __init__(self, bearers: Sequence[str], client: httpx.AsyncClient) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        for bearer in bearers:
            self.queue.put_nowait(bearer)

    async def post(self, bearer: str) -> httpx2.Response:
        async with httpx2.AsyncClient() as client:
            return await client.post(CALL_URL, headers=bearer_header(bearer), json=MESSAGE)

    async def call(self) -> object:
        bearer = await self.queue.get()
        try:
            return (await self.post(bearer)).status_code
        finally:
            self.queue.put_nowait(bearer)


class ReclaimsFromSlow(Queued):
    """Puts a bearer back into the queue when its call takes 20 s; and when the call has ended, once more."""

    async def call(self) -> object:
        bearer = await self.queue.get()
        reclaim = asyncio.get_running_loop().call_later(20, self.queue.put_nowait, bearer)
        try:
            return (await self.post(bearer)).status_code
        finally:
            reclaim.cancel()
            self.queue.put_nowait(bearer)


class ReturnsTwice(Queued):
    """Gives the bearer of an overloaded call back at once, for somebody luckier, and again at the end."""

    async def call(self) -> object:
        bearer = await self.queue.get()
        try:
            response = await self.post(bearer)
            if response.status_code == 529:
                self.queue.put_nowait(bearer)
            return response.status_code
        finally:
            self.queue.put_nowait(bearer)


def calls(make: Callable[[Sequence[str], Any], Pool], *, bearers: int = 2, per_worker: int = 1) -> Body:
    """Everybody has calls to make; there are so many accounts with a bearer each."""

    async def calls(claude_tokens: Any, workers: Any) -> None:
        async with httpx.AsyncClient() as client:
            pool = make([claude_tokens.account().access_token for _ in range(bearers)], client)
            await workers(pool.call, per_worker=per_worker)

    return named(calls, make, bearers, per_worker)


PAIRS = [
    Pair(
        name="bearer picked before an await",
        invariant=CoSchedule,
        planted=calls(PicksThenTakes),
        sound=calls(Free),
    ),
    Pair(
        name="notified once, not looked again",
        invariant=CoSchedule,
        planted=calls(NoSecondLook, bearers=1, per_worker=2),
        sound=calls(Free, bearers=1, per_worker=2),
        workers=3,
    ),
    Pair(
        name="permit given back before the streamed body ends",
        invariant=CoSchedule,
        planted=calls(StreamOutlivesPermit, bearers=1),
        sound=calls(StreamUnderPermit, bearers=1),
        workers=2,
    ),
    Pair(
        name="two names for one token",
        invariant=CoSchedule,
        planted=calls(LockPerName),
        sound=calls(LockPerToken),
    ),
    Pair(
        name="round robin",
        invariant=CoSchedule,
        planted=calls(RoundRobin, per_worker=3),
        sound=calls(Queued, per_worker=3),
        workers=2,
    ),
    Pair(
        name="bearer reclaimed from a slow call",
        invariant=CoSchedule,
        planted=calls(ReclaimsFromSlow, per_worker=2),
        sound=calls(Queued, per_worker=2),
        workers=3,
    ),
    Pair(
        name="bearer given back twice",
        invariant=CoSchedule,
        planted=calls(ReturnsTwice, per_worker=2),
        sound=calls(Queued, per_worker=2),
        workers=3,
        options={"faults": [Fault.status(529)]},
    ),
]
