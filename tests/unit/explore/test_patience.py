"""No delay of a search's outlasts the patience of a client: no time-out fires unless the test asks for it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request

import anyio
import httpx
import pytest
from hypothesis import seed, settings

from fake_server import Fault
from fake_server.effects import Wait
from pytest_claude_tokens import explore
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.simulation.patience import Patience
from pytest_claude_tokens.simulation.schedule import EACH_LEG, Deviation, Schedule
from pytest_claude_tokens.violations import BlindReplay, DoubleSpend
from tests.unit.explore.common import CALL_URL, quick, refreshing, search
from tests.zoo.common import TOKEN_URL, Login

aiohttp = pytest.importorskip("aiohttp")
trio = pytest.importorskip("trio")
urllib3 = pytest.importorskip("urllib3")
PATIENCE = 5
SCHEDULES = 40


async def by_httpx(body, timeout=PATIENCE):
    async with httpx.AsyncClient(timeout=timeout) as client:
        return (await client.post(TOKEN_URL, json=body)).raise_for_status().json()


def by_httpx_now(body, timeout=PATIENCE):
    with httpx.Client(timeout=timeout) as client:
        return client.post(TOKEN_URL, json=body).raise_for_status().json()


async def by_aiohttp(body, **timeout):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(**timeout)) as session:
        async with session.post(TOKEN_URL, json=body, raise_for_status=True) as reply:
            return await reply.json()


async def in_total(body):
    return await by_aiohttp(body, total=PATIENCE)


async def for_each_read(body):
    return await by_aiohttp(body, sock_read=PATIENCE)


async def to_connect(body):
    return await by_aiohttp(body, sock_connect=PATIENCE, total=PATIENCE)


async def in_a_scope(body):
    async with asyncio.timeout(PATIENCE):
        return await by_httpx(body, None)


async def in_a_scope_over_aiohttp(body):
    async with asyncio.timeout(PATIENCE):
        return await by_aiohttp(body)


async def in_a_scope_of_anyio(body):
    with anyio.fail_after(PATIENCE):
        return await by_httpx(body, None)


async def waited_for(body):
    return await asyncio.wait_for(by_httpx(body, None), PATIENCE)


async def in_a_group(body):
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        made = group.create_task(by_httpx(body, None))
    return made.result()


async def in_a_thread(body):
    async with asyncio.timeout(PATIENCE):
        return await asyncio.to_thread(by_httpx_now, body, None)


def by_urllib_now(body):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(TOKEN_URL, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


async def by_sockets_in_a_thread(body):
    return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(None, by_urllib_now, body), PATIENCE)


async def on_a_loop_in_a_thread(body):
    async with asyncio.timeout(PATIENCE):
        return await asyncio.to_thread(asyncio.run, by_httpx(body, None))


async def in_trio_in_a_thread(body):
    return await asyncio.wait_for(asyncio.to_thread(trio.run, by_httpx, body, None), PATIENCE)


async def cancelled_later(body):
    task = asyncio.ensure_future(by_httpx(body, None))
    timer = asyncio.get_running_loop().call_later(PATIENCE, task.cancel)
    try:
        return await task
    finally:
        timer.cancel()


WAYS = [
    by_httpx,
    in_total,
    for_each_read,
    to_connect,
    in_a_scope,
    in_a_scope_over_aiohttp,
    in_a_scope_of_anyio,
    waited_for,
    in_a_group,
    in_a_thread,
    by_sockets_in_a_thread,
    on_a_loop_in_a_thread,
    in_trio_in_a_thread,
    cancelled_later,
]


class Leased:
    """A login that is leased for some seconds by whoever refreshes it."""

    def __init__(self, account, lease):
        self.login = Login.of(account.credentials)
        self.lease, self.until = lease, 0.0
        self.given_up = []

    async def ask(self, way):
        while time.time() < self.until:
            await asyncio.sleep(1)
        self.until = mine = time.time() + self.lease
        if self.login.expired:
            try:
                self.login = Login.from_reply(await way(refreshing(self.login.refresh)))
            except (TimeoutError, httpx.TimeoutException) as error:
                self.given_up.append(error)
        if self.until == mine:
            self.until = 0.0


def leased(way, lease, **options):
    @settings(quick, max_examples=SCHEDULES)
    @explore(workers=2, **options)
    async def test(claude_tokens, workers):
        login = Leased(claude_tokens.account(expired=True), lease)
        await workers(lambda: login.ask(way))
        assert not login.given_up

    return test


@pytest.mark.parametrize("way", WAYS)
def test_a_lease_that_is_longer_than_its_client_waits_is_sound(way):
    """Were the worker itself slow, it would not be: so this one has no time for that."""
    result = search(leased(way, PATIENCE + 0.1, slow=PATIENCE + 0.1))
    assert result.error is None


@pytest.mark.parametrize("way", WAYS)
def test_no_time_out_fires_however_slow_a_worker_is(way):
    """The lease is longer than anything that the search may take."""
    assert search(leased(way, 60)).error is None


@pytest.mark.parametrize("way", [by_httpx, in_total, in_a_scope, waited_for])
def test_a_lease_that_is_shorter_than_its_client_waits_is_found(way):
    result = search(leased(way, PATIENCE - 1))
    assert type(result.error) is DoubleSpend


@pytest.mark.parametrize("way", [by_httpx, in_total, for_each_read, in_a_scope, waited_for, in_a_thread])
@pytest.mark.parametrize("asked", [{"latency": 6}, {"faults": [Fault.delay(6)]}, {"faults": [Fault.TIMEOUT]}])
def test_they_fire_where_the_test_asks_for_it(way, asked):
    """A service that takes longer; or faults."""
    handle = {name: asked[name] for name in asked if name == "latency"}
    options = {name: asked[name] for name in asked if name == "faults"}
    result = search(leased(way, 600, **options), handle=handle)
    # A thread can't be ended: its request goes on.
    assert type(result.error) in (AssertionError, BlindReplay, *[DoubleSpend] * (way is in_a_thread))


def test_a_latency_within_the_time_out_leaves_the_search_the_rest():
    """The service's own seconds count, those of the requests before in the queue, too."""

    @settings(quick, max_examples=SCHEDULES)
    @explore(workers=3)
    async def test(claude_tokens, workers):
        account = claude_tokens.account()

        async def call():
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                reply = await client.post(
                    "https://api.anthropic.com/v1/messages",
                    json={"model": "claude-x", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]},
                    headers={"Authorization": f"Bearer {account.access_token}"},
                )
            assert reply.status_code == 200

        await workers(call)

    result = search(test, handle={"latency": {"call": 1.5}, "allow": ["co-schedule"]})
    assert result.error is None


def test_a_scope_around_a_lock_fires_as_in_reality():
    """Whoever goes on without the lock then is found."""

    @settings(quick, max_examples=SCHEDULES)
    @explore(workers=2)
    async def test(claude_tokens, workers):
        login, lock = Leased(claude_tokens.account(expired=True), 0), asyncio.Lock()

        async def ask():
            held = True
            try:
                async with asyncio.timeout(PATIENCE - 1):
                    await lock.acquire()
            except TimeoutError:
                held = False
            await login.ask(by_httpx)
            if held:
                lock.release()

        await workers(ask)

    assert type(search(test).error) is DoubleSpend


def test_threads_have_patience_too():
    """A synchronous client, and a lease that it may rely on."""

    def leased_now(lease, slow=60):
        @settings(quick, max_examples=SCHEDULES)
        @explore(workers=2, slow=slow, preempt=False)
        def test(claude_tokens, workers):
            login = Leased(claude_tokens.account(expired=True), lease)

            def ask():
                while time.time() < login.until:
                    time.sleep(1)
                login.until = mine = time.time() + lease
                if login.login.expired:
                    login.login = Login.from_reply(by_httpx_now(refreshing(login.login.refresh)))
                login.until = 0.0 if login.until == mine else login.until

            workers(ask)

        return test

    assert search(leased_now(PATIENCE + 0.1, PATIENCE + 0.1)).error is None
    assert search(leased_now(60)).error is None
    assert type(search(leased_now(PATIENCE - 1)).error) is DoubleSpend


class Polled(Leased):
    """Who waits looks often at the clock, and in short sleeps, as one who asks a database does."""

    async def ask(self, way):
        while all(time.time() < self.until for _ in range(4)):
            await asyncio.sleep(0.001)
            await asyncio.sleep(0.25)
        await super().ask(way)


SUSPENDED = Schedule(deviations=(Deviation(EACH_LEG, "slow", 0, 2_700), Deviation(4, "freeze", 0, 50_000)))
"""Its replies take as long as its client waits, and it is suspended as soon as it has asked, for as long as may be."""


def polled(way, lease, slow):
    @settings(quick, max_examples=1)
    @explore(workers=2, slow=slow)
    async def test(claude_tokens, workers):
        login = Polled(claude_tokens.account(expired=True), lease)
        await workers(lambda: login.ask(way))
        assert not login.given_up

    token = Replay(kind="tasks", workers=2, schedule=SUSPENDED, slow=slow).token()
    return search(test, replay=token)


@pytest.mark.parametrize("way", [by_httpx, in_total, for_each_read, in_a_scope, waited_for])
def test_no_time_out_fires_while_others_look_again_and_again(way):
    """Time passes for them, and it is no reason for a client to give up whose reply is there."""
    assert polled(way, 600, 120).error is None


@pytest.mark.parametrize("lease", [30, 110])
def test_a_worker_stays_suspended_however_often_others_look(lease):
    """For as long as the search may hold it up, and no longer: a lease is told as long as it was."""
    result = polled(by_httpx, lease, 120)
    assert type(result.error) is DoubleSpend
    (told,) = (line for line in result.found.remarks() if line.startswith("w0 was slow"))
    assert abs(int(told.rpartition(" a lease of ")[2].split()[0]) - lease) <= 3
    assert polled(by_httpx, 120, 120).error is None


class Spun(Leased):
    """Who waits looks at the clock all the time."""

    async def ask(self, way):
        while time.time() < self.until:
            await asyncio.sleep(0)
        await super().ask(way)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("way", [by_httpx, in_total, in_a_scope, waited_for])
def test_no_time_out_fires_while_others_spin(way, workers):
    """Time passes by their looks; a reply that has come just before its client would give up is read all the same."""

    @settings(quick, max_examples=15)
    @explore(workers=workers)
    async def test(claude_tokens, workers):
        login = Spun(claude_tokens.account(expired=True), 120)
        await workers(lambda: login.ask(way))
        assert not login.given_up

    assert search(test).error is None


@pytest.mark.parametrize("way", [by_httpx, in_total, in_a_scope])
def test_who_spins_for_a_client_that_gives_up_sees_it(way):
    """Where no reply comes, time passes in the end."""

    @settings(quick, max_examples=1)
    @explore(workers=2)
    async def test(claude_tokens, workers):
        login = Leased(claude_tokens.account(expired=True), 0)
        claude_tokens.fail_next("token", Fault.TIMEOUT)

        async def spin():
            while not login.given_up:
                await asyncio.sleep(0)
            assert PATIENCE <= asyncio.get_running_loop().time() < PATIENCE + 1

        await workers(lambda: login.ask(way), spin)

    assert search(test).error is None


@pytest.mark.parametrize("number", [5, 15])
def test_no_time_out_fires_after_many_suspensions(number):
    """Each takes a little of what is left: the last leg must not be made longer than that, nor the last suspension."""

    @seed(number)
    @settings(database=None, max_examples=16)
    @explore(workers=3)
    async def test(claude_tokens, workers):
        bearers = [claude_tokens.account(name).access_token for name in "abc"]
        arrivals = iter(range(3))

        async def call():
            turn = next(arrivals)
            await asyncio.sleep(0.03 * turn)
            patience = aiohttp.ClientTimeout(total=None, sock_read=2, connect=2)
            async with aiohttp.ClientSession(timeout=patience) as session:
                headers = {"Authorization": f"Bearer {bearers[turn]}"}
                asked = {"model": "claude-x", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
                async with session.post(CALL_URL, json=asked, headers=headers, raise_for_status=True) as reply:
                    await reply.json()

        await workers(call)

    assert search(test).error is None


def test_a_client_whose_time_is_up_does_not_make_time_stand_still():
    """A sleep lasts as long as a look again after some that were cut short for its sake."""
    patience = Patience()
    patience.begin(Wait("request", 9.0, until=2.0, needs=9.0), 0, None)
    took = [patience.capped(1.0, 0.01) for _ in range(1_001)]
    assert took == [0.0] * 1_000 + [0.01]
    assert not patience.bars(1.0, 0.01, ())
    patience.barred = 0  # there was progress
    assert patience.bars(1.0, 0.01, ())


def spun():
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("busy", [spun, lambda: time.sleep(PATIENCE)])
@pytest.mark.parametrize("way", [by_httpx, in_total, in_a_scope])
def test_no_time_out_fires_while_the_loop_is_blocked(way, busy):
    """No task can go on meanwhile, so none of them is late."""

    @settings(quick, max_examples=1)
    @explore(workers=2)
    async def test(claude_tokens, workers):
        login = Leased(claude_tokens.account(expired=True), 0)

        async def block():
            await asyncio.sleep(1)
            busy()

        await workers(lambda: login.ask(way), block)
        assert not login.given_up

    slow = Schedule(deviations=(Deviation(EACH_LEG, "slow", 0, 2_000),))
    assert search(test, replay=Replay(kind="tasks", workers=2, schedule=slow, slow=60).token()).error is None


def by_urllib3(body):
    pool = urllib3.PoolManager(retries=False)
    try:
        return pool.request("POST", TOKEN_URL, json=body, timeout=urllib3.Timeout(total=0.4)).json()
    finally:
        pool.clear()


def in_trio(body):
    async def within():
        with trio.move_on_after(60), trio.fail_after(0.4):
            return await by_httpx(body, None)

    return trio.run(within)


def in_trio_with_another_deadline(body):
    async def extend(scope):
        await trio.sleep(0)
        scope.deadline = trio.current_time() + 600
        await trio.sleep(0)
        scope.deadline += 600

    async def within():
        with trio.fail_after(0.2) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(extend, scope)
                return await by_httpx(body, None)

    return trio.run(within)


def in_trio_by_anyio(body):
    async def within():
        with anyio.fail_after(0.4), anyio.CancelScope(shield=True):
            with anyio.fail_after(0.5):
                return await by_httpx(body, None)

    return anyio.run(within, backend="trio")


def locked(way, **options):
    """Threads of which one after the other refreshes: how the search for what is wrong with it ends."""

    @settings(quick, max_examples=SCHEDULES)
    @explore(workers=2, preempt=False, **options)
    def test(claude_tokens, workers):
        login, lock = Leased(claude_tokens.account(expired=True), 0), threading.Lock()

        def ask():
            with lock:
                if login.login.expired:
                    login.login = Login.from_reply(way(refreshing(login.login.refresh)))

        workers(ask)

    return search(test).error


@pytest.mark.parametrize("way", [by_urllib3, in_trio, in_trio_with_another_deadline, in_trio_by_anyio])
def test_clients_that_measure_time_do_not_notice_either(way):
    """A worker is suspended between two looks at the clock; or its run of trio is, just before a scope's deadline."""
    assert locked(way) is None


@pytest.mark.parametrize("way", [by_urllib3, in_trio, in_trio_by_anyio])
def test_their_time_outs_fire_where_the_test_asks_for_it(way):
    """Whoever goes on without a reply sends the token again."""
    assert type(locked(way, faults=[Fault.delay(6), Fault.TIMEOUT])) is BlindReplay
