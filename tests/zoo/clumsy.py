"""Asynchronous clients that meet a refusal, a lost reply or a cancellation, and draw the wrong conclusion."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx
import httpx2

from fake_server import Fault, Policy
from pytest_claude_tokens.violations import BlindReplay, DoubleSpend, ForcedLogin, RefreshStorm, StaleBearer
from tests.zoo.common import (
    CALL_URL,
    MESSAGE,
    TOKEN_URL,
    Body,
    Login,
    Pair,
    bearer_header,
    named,
    redeem,
    token_request,
)


class Client(Protocol):
    """What every worker asks, for a bearer or for a call."""

    async def ask(self) -> object: ...


# The outcome of a token request is unknown.


class TriesAgain:
    """Sends a token request up to three times when the network fails."""

    faults: tuple[type[Exception], ...] = (httpx2.TransportError,)
    asks_again = True

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        self.login = Login.of(credentials)
        self.lock = asyncio.Lock()
        self.parked = False

    async def ask(self) -> object:
        async with self.lock:
            if self.login.expired and not self.parked:
                await self.refresh()
        return self.login.access

    async def refresh(self) -> None:
        async with httpx2.AsyncClient(timeout=10) as client:
            for _ in range(3):
                try:
                    reply = await client.post(TOKEN_URL, json=token_request(self.login.refresh))
                except self.faults:
                    if not self.asks_again:
                        self.parked = True  # it may be spent: only a person can say
                        return
                else:
                    if reply.status_code < 500:
                        self.login = Login.from_reply(reply.raise_for_status().json())
                        return
                await asyncio.sleep(1)
            self.parked = True


class ParksUnknown(TriesAgain):
    """… tries again on a 5xx only, and parks the login where the outcome is unknown."""

    asks_again = False


class TriesAgainOnTimeout(TriesAgain):
    """… only when no reply came in time."""

    faults = (httpx2.TimeoutException,)


class LeaderMayBeCancelled:
    """A single flight in the task of whoever came first. When that one is cancelled, the next one flies."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        self.login = Login.of(credentials)
        self.flight: asyncio.Future[None] | None = None

    async def ask(self) -> object:
        while self.login.expired:
            if self.flight is not None:
                await asyncio.wait([self.flight])
                continue
            self.flight = asyncio.get_running_loop().create_future()
            try:
                self.login = await redeem(self.login.refresh)
            finally:
                self.flight.set_result(None)
                self.flight = None
        return self.login.access


class FlightOfItsOwn(LeaderMayBeCancelled):
    """A single flight in a task of its own, which nobody who waits for it can cancel."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        super().__init__(credentials)
        self.task: asyncio.Task[None] | None = None

    async def ask(self) -> object:
        if self.login.expired:
            self.task = self.task or asyncio.create_task(self.fly())
            await asyncio.shield(self.task)
        return self.login.access

    async def fly(self) -> None:
        self.login = await redeem(self.login.refresh)


class ShieldsOnlyTheRequest:
    """The request is shielded from a cancellation; what is done with its reply isn't."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        self.login = Login.of(credentials)
        self.lock = asyncio.Lock()

    async def ask(self) -> object:
        async with self.lock:
            if self.login.expired:
                self.login = await asyncio.shield(asyncio.create_task(redeem(self.login.refresh)))
        return self.login.access


class AbandonsSlowRefresh:
    """Gives a refresh 5 s, then drops it with its reply."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        self.login = Login.of(credentials)
        self.flight: asyncio.Task[None] | None = None

    async def ask(self) -> object:
        if self.login.expired:
            self.flight = self.flight or asyncio.create_task(self.fly())
            await self.wait(self.flight)
        return None if self.login.expired else self.login.access

    async def wait(self, flight: asyncio.Task[None]) -> None:
        await asyncio.wait([flight], timeout=5)
        flight.cancel()

    async def fly(self) -> None:
        self.login = await redeem(self.login.refresh)


class LeavesItToFinish(AbandonsSlowRefresh):
    """… then goes without a bearer, and lets the refresh end."""

    async def wait(self, flight: asyncio.Task[None]) -> None:
        await asyncio.wait([flight], timeout=5)


# The service refuses a bearer.


class EachRefreshesOn401:
    """Whoever is refused a bearer refreshes, one after the other."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        self.login = Login.of(credentials)
        self.lock = asyncio.Lock()

    async def ask(self) -> object:
        async with httpx.AsyncClient() as client:
            for _ in range(2):
                bearer = self.login.access
                response = await client.post(CALL_URL, headers=bearer_header(bearer), json=MESSAGE)
                if response.status_code == 401:
                    await self.refused(bearer)
            return response.status_code

    async def refused(self, bearer: str) -> None:
        async with self.lock:
            self.login = await redeem(self.login.refresh)


class RefreshesWhatWasRefused(EachRefreshesOn401):
    """… unless somebody has done it meanwhile."""

    async def refused(self, bearer: str) -> None:
        async with self.lock:
            if bearer == self.login.access:
                self.login = await redeem(self.login.refresh)


class KeepsRefusedBearer(RefreshesWhatWasRefused):
    """Sends the same request again when the refresh is over: headers and all."""

    async def ask(self) -> object:
        async with httpx.AsyncClient() as client:
            bearer = self.login.access
            request = client.build_request("POST", CALL_URL, headers=bearer_header(bearer), json=MESSAGE)
            response = await client.send(request)
            if response.status_code == 401:
                if not self.lock.locked():  # the first one; the others wait for it
                    await self.refused(bearer)
                    request = client.build_request(
                        "POST", CALL_URL, headers=bearer_header(self.login.access), json=MESSAGE
                    )
                async with self.lock:
                    response = await client.send(request)
            return response.status_code


class BufferBeyondLife:
    """Refreshes 5 min before the end of a token's life, under a lock and after a second look."""

    buffer = 300.0

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        self.login = Login.of(credentials)
        self.lock = asyncio.Lock()

    def margin(self) -> float:
        return self.buffer

    async def ask(self) -> object:
        async with self.lock:
            if Login(self.login.access, self.login.refresh, self.login.expires - self.margin()).expired:
                self.login = await redeem(self.login.refresh)
            return self.login.access


class BufferWithinLife(BufferBeyondLife):
    """… or half a minute before, where a token lives for 4 min."""

    buffer = 30.0


def one_login(make: Callable[[Mapping[str, Any]], Client], *, per_worker: int = 1, expired: bool = True) -> Body:
    """One login for all workers. Either they know that its access token has expired, or only the service does."""

    async def one_login(claude_tokens: Any, workers: Any) -> None:
        account = claude_tokens.account(expired=expired)
        if not expired:
            claude_tokens.expire(account)
        await workers(make(account.credentials).ask, per_worker=per_worker)

    return named(one_login, make, per_worker, expired)


PAIRS = [
    Pair(
        name="blind retry after a lost reply",
        invariant=BlindReplay,
        planted=one_login(TriesAgain),
        sound=one_login(ParksUnknown),
        workers=2,
        options={"faults": [Fault.LOST_REPLY, Fault.status(503)]},
    ),
    Pair(
        name="retry after a time-out",
        invariant=BlindReplay,
        planted=one_login(TriesAgainOnTimeout),
        sound=one_login(ParksUnknown),
        workers=2,
        options={"faults": [Fault.TIMEOUT, Fault.status(500)]},
    ),
    Pair(
        name="cancelled leader",
        invariant=BlindReplay,
        planted=one_login(LeaderMayBeCancelled),
        sound=one_login(FlightOfItsOwn),
        workers=3,
        options={"cancel": True},
    ),
    Pair(
        name="shielded request, reply dropped",
        invariant=DoubleSpend,
        planted=one_login(ShieldsOnlyTheRequest),
        sound=one_login(FlightOfItsOwn),
        workers=3,
        options={"cancel": True},
    ),
    Pair(
        name="slow refresh abandoned",
        invariant=ForcedLogin,
        planted=one_login(AbandonsSlowRefresh),
        sound=one_login(LeavesItToFinish),
        workers=2,
    ),
    Pair(
        name="401 storm",
        invariant=RefreshStorm,
        planted=one_login(EachRefreshesOn401, expired=False),
        sound=one_login(RefreshesWhatWasRefused, expired=False),
        handle={"limit": 4},
    ),
    Pair(
        name="refused bearer sent again",
        invariant=StaleBearer,
        planted=one_login(KeepsRefusedBearer, expired=False),
        sound=one_login(RefreshesWhatWasRefused, expired=False),
        workers=2,
        handle={"limit": 2},
    ),
    Pair(
        name="refresh buffer beyond the token's life",
        invariant=RefreshStorm,
        planted=one_login(BufferBeyondLife, per_worker=2),
        sound=one_login(BufferWithinLife, per_worker=2),
        workers=2,
        handle={"policy": Policy(expires_in=240)},
    ),
]
