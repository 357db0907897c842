"""A time-out is a client's where it ends the request. Who only stops waiting for one sees it fire, as in reality."""

from __future__ import annotations

import asyncio
from math import inf

import anyio
import httpx
import pytest
from hypothesis import settings

from fake_server.effects import Wait
from pytest_claude_tokens import explore
from pytest_claude_tokens.simulation.patience import Patience
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import TOKEN_URL, quick, refreshing, search

PATIENCE = 2


class Hedged:
    """A login under a lock. Whoever has waited for its refresh for a while sends another one, or not."""

    def __init__(self, account, wait, *, sends_another):
        self.refresh_token, self.bearer = account.refresh_token, None
        self.wait, self.sends_another = wait, sends_another
        self.lock = asyncio.Lock()
        self.impatient = 0

    async def ask(self):
        async with self.lock:
            if self.bearer is None:
                await self.wait(self)
        return self.bearer

    async def refresh(self):
        async with httpx.AsyncClient(timeout=None) as client:
            reply = await client.post(TOKEN_URL, json=refreshing(self.refresh_token))
        got = reply.raise_for_status().json()
        self.bearer, self.refresh_token = got["access_token"], got["refresh_token"]

    async def hedge(self):
        self.impatient += 1
        if self.sends_another:
            await self.refresh()


async def by_shield(login):
    flight = asyncio.create_task(login.refresh())
    flight.add_done_callback(lambda flight: flight.exception())
    try:
        await asyncio.wait_for(asyncio.shield(flight), PATIENCE)
    except TimeoutError:
        await login.hedge()
    await flight


async def by_wait(login):
    flight = asyncio.ensure_future(login.refresh())
    await asyncio.wait([flight], timeout=PATIENCE)
    if not flight.done():
        await login.hedge()
    await flight


async def by_an_event(login):
    """The scope is within the group, which ends its tasks only when it is ended itself."""
    done = anyio.Event()

    async def fly():
        await login.refresh()
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(fly)
        with anyio.move_on_after(PATIENCE) as scope:
            await done.wait()
        if scope.cancelled_caught:
            await login.hedge()


async def by_a_queue(login):
    """The request is of a task in the background, that nobody waits for."""
    done = asyncio.Queue()

    async def fly():
        await done.put(await login.refresh())

    flights = {asyncio.create_task(fly())}
    for flight in flights:
        flight.add_done_callback(flights.discard)
    try:
        async with asyncio.timeout(PATIENCE):
            await done.get()
    except TimeoutError:
        await login.hedge()
    await asyncio.gather(*flights)


def hedged(wait, *, sends_another, schedules=12):
    impatient = []

    @settings(quick, max_examples=schedules)
    @explore(workers=2)
    async def test(claude_tokens, workers):
        login = Hedged(claude_tokens.account(expired=True), wait, sends_another=sends_another)
        assert len(set(await workers(login.ask))) == 1
        impatient.append(login.impatient)

    return test, impatient


@pytest.mark.parametrize("wait", [by_shield, by_wait, by_an_event, by_a_queue])
def test_a_soft_deadline_fires(wait):
    """A second request beside the first one is found; who goes on waiting is spared, and has been impatient."""
    test, impatient = hedged(wait, sends_another=True)
    assert type(search(test).error) is DoubleSpend
    test, impatient = hedged(wait, sends_another=False)
    assert search(test).error is None
    assert set(impatient) == {0, 1}


async def awaited_in_a_scope(login):
    flight = asyncio.create_task(login.refresh())
    async with asyncio.timeout(PATIENCE):
        await flight


async def awaited_in_a_scope_later(login):
    flight = asyncio.create_task(login.refresh())
    async with asyncio.timeout(PATIENCE):
        await asyncio.sleep(0.1)
        await flight


async def awaited_when_it_is_on_its_way(login):
    flight = asyncio.create_task(login.refresh())
    await asyncio.sleep(0.1)
    await asyncio.wait_for(flight, PATIENCE)


async def gathered_in_a_scope(login):
    flights = [asyncio.create_task(login.refresh()), asyncio.create_task(asyncio.sleep(0))]
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*flights)


async def waited_for(login):
    await asyncio.wait_for(asyncio.create_task(login.refresh()), PATIENCE)


async def awaited_later(login):
    async with asyncio.timeout(PATIENCE):
        flight = asyncio.create_task(login.refresh())
        await asyncio.sleep(0)
        await flight


async def shielded_within(login):
    """The shield is for a part that sends nothing."""
    async with asyncio.timeout(PATIENCE):
        await asyncio.shield(asyncio.create_task(asyncio.sleep(0)))
        await login.refresh()


WITHIN = [
    awaited_in_a_scope,
    awaited_in_a_scope_later,
    awaited_when_it_is_on_its_way,
    gathered_in_a_scope,
    waited_for,
    awaited_later,
    shielded_within,
]


@pytest.mark.parametrize("wait", WITHIN)
def test_a_time_out_that_ends_the_request_does_not_fire(wait):
    """Whichever task sends it, and whenever that was made."""
    assert search(hedged(wait, sends_another=False, schedules=25)[0]).error is None


def test_a_request_that_is_over_is_expected_no_more():
    """Its client may have gone while its leg was drawn."""
    patience = Patience()
    number = patience.begin(Wait("request", until=2.0), 0, None)
    patience.end(number)
    patience.expect(number, 1.0)
    assert patience.limit(0.0, lambda worker: True) == inf
