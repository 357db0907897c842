"""Threads that run an event loop of their own: in simulated time, switching like any other thread."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from contextlib import suppress
from time import monotonic, sleep  # in a world: simulated seconds, which pass at once

import httpx
import pytest
from hypothesis import given, settings

from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Schedule
from pytest_claude_tokens.simulation.thread_loop import ThreadLoop
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.simulation.worlds import explored, outcome_of, run_threads, schedules, workers_of, world
from tests.zoo.common import TOKEN_URL, token_request

pytestmark = pytest.mark.usefixtures("staged")


async def nap(seconds):
    await asyncio.sleep(seconds)
    return monotonic()


def test_loops_sleep_side_by_side():
    """Each in its thread, in one and the same time."""
    assert run_threads(*[lambda s=s: asyncio.run(nap(s)) for s in (3, 1, 2)]) == [3, 1, 2]


@settings(max_examples=30)
@given(schedules())
def test_one_loop_wakes_another_through_a_threadsafe_call(schedule):
    """However they are interleaved, no call is lost; the loop that waits has no timer at all."""

    def consumer():
        async def main():
            box.append((asyncio.get_running_loop(), asyncio.Queue()))
            return [await box[0][1].get() for _ in range(3)]

        return asyncio.run(main())

    def producer():
        while not box:
            sleep(1)
        loop, items = box[0]
        for number in range(3):
            loop.call_soon_threadsafe(items.put_nowait, number)
        return "done"

    box = []
    assert run_threads(consumer, producer, schedule=schedule) == [[0, 1, 2], "done"]


def test_coroutine_sent_to_another_loop():
    """``run_coroutine_threadsafe``, and its result."""

    def server():
        async def main():
            box.append(asyncio.get_running_loop())
            await asyncio.sleep(10)

        asyncio.run(main())

    def client():
        sleep(1)
        return asyncio.run_coroutine_threadsafe(nap(2), box[0]).result()

    box = []
    assert run_threads(server, client)[1] == 3


def test_wake_up_is_for_an_idle_loop_only():
    """One whose thread sleeps in a callback is not woken from that."""

    def sleeper():
        async def main():
            box.append(asyncio.get_running_loop())
            sleep(5)
            return monotonic()

        return asyncio.run(main())

    def caller():
        sleep(1)
        box[0].call_soon_threadsafe(lambda: None)

    box = []
    assert run_threads(sleeper, caller)[0] == 5


def test_jobs_of_such_a_loop_are_threads_of_the_world():
    """In simulated time, as from the other loop."""

    def job():
        async def main():
            await asyncio.gather(*[asyncio.to_thread(sleep, 2) for _ in range(3)])
            return monotonic()

        return asyncio.run(main())

    assert run_threads(job) == [2]


def test_job_that_ends_after_its_loop():
    """Nobody is told, and nothing breaks."""

    def job():
        async def main():
            asyncio.get_running_loop().run_in_executor(None, late)

        asyncio.run(main())
        sleep(10)
        return seen

    def late():
        sleep(5)
        seen.append(monotonic())

    seen: list[float] = []
    assert run_threads(job) == [[5]]


@pytest.mark.parametrize("then", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(1)], ids=["busy", "idle"])
def test_loop_whose_world_has_ended_ends_when_its_thread_comes_back(then):
    """It was blocked outside; what it does next ends it, and nothing in it spins."""
    reader, writer = os.pipe()
    threads, ended = [], []

    def left():
        threads.append(threading.current_thread())
        try:
            asyncio.run(blocked())
        except BaseException as error:
            ended.append(type(error).__name__)

    async def blocked():
        os.read(reader, 1)
        with suppress(Exception):
            await then()

    def job():
        threading.Thread(target=left, daemon=True).start()
        sleep(1)

    run_threads(job)
    os.write(writer, b"x")
    threads[0].join(10)
    os.close(reader)
    os.close(writer)
    assert not threads[0].is_alive()
    assert ended == ["Stopped"]


def test_loop_waits_for_nothing_in_a_world_that_has_ended():
    """Its thread was blocked outside, and nobody will wake it."""
    with world() as new:
        loop = ThreadLoop(new)
    new.release()
    with pytest.raises(Stopped):
        loop.select(1)
    loop.close()


def test_spinning_loop_lets_others_run():
    """It waits for another thread without sleeping."""

    def spinner():
        async def main():
            while not box:
                await asyncio.sleep(0)

        asyncio.run(main())
        return True

    def other():
        sleep(0)
        box.append(1)

    box = []
    assert run_threads(spinner, other)[0]


def test_loop_that_waits_for_ever_is_told_of():
    """In the words of a deadlock."""

    async def forever():
        await asyncio.Event().wait()

    with world(DEFAULT_ORDER, 1) as new:
        with pytest.raises(Stuck):
            workers_of(new, 1, simulated_loop=False)(lambda: asyncio.run(forever()))
        assert new.waits() == ["w0 waits for its event loop, in which nothing can go on"]


def test_loops_that_are_left_end_without_a_word(caplog):
    """With their tasks, begun or not, stubborn or not."""

    async def stubborn():
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1000)

    async def main():
        tasks = [asyncio.create_task(stubborn()) for _ in range(3)]
        await asyncio.sleep(1)
        tasks.append(asyncio.create_task(stubborn()))
        sleep(5)
        await asyncio.gather(*tasks)

    def leave():
        threading.Thread(target=asyncio.run, args=[main()], daemon=True).start()
        sleep(2)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_threads(leave)
        gc.collect()
    assert caplog.records == []


def test_root_may_run_a_loop_too():
    """A body that is a ``def`` and calls ``asyncio.run`` itself."""
    with world():
        assert asyncio.run(nap(7)) == 7


@pytest.mark.parametrize("client", ["httpx", "aiohttp"])
@pytest.mark.parametrize("sound", [True, False])
def test_dispatcher_of_loops_in_threads(client, sound):
    """Its requests meet the service, wait in simulated time, and are judged."""
    aiohttp = pytest.importorskip("aiohttp")

    def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        state = {"refresh": account.refresh_token, "fresh": False}
        lock = threading.Lock()

        async def refresh():
            if client == "httpx":
                async with httpx.AsyncClient() as one:
                    reply = (await one.post(TOKEN_URL, json=token_request(state["refresh"]))).json()
            else:
                async with aiohttp.ClientSession() as one:
                    async with one.post(TOKEN_URL, json=token_request(state["refresh"])) as response:
                        reply = await response.json()
            state.update(refresh=reply.get("refresh_token"), fresh=True)

        def job():
            if not sound:
                asyncio.run(refresh())
                return
            with lock:
                if not state["fresh"]:
                    asyncio.run(refresh())

        workers(job)

    with explored(body, 3) as run:
        outcomes = [run(Schedule(kind="walk", seed=seed)) for seed in range(8)]
        assert run(Schedule(kind="walk", seed=3)).lines() == outcomes[3].lines()
    assert {event.actor for event in outcomes[0].history if event.type == "invoke"} <= {"w0", "w1", "w2"}
    if sound:
        assert [outcome.error for outcome in outcomes] == [None] * 8
    else:
        found = [outcome.error for outcome in outcomes if outcome.error is not None]
        assert all(isinstance(error, DoubleSpend) for error in found)
        assert len(found) > 4  # the others' orders have them come one after the other


def test_calls_in_line_for_a_bearer_from_several_loops():
    """One waits for the gate until the other's call ends, in another thread's loop."""

    def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def call():
            async with httpx.AsyncClient() as client:
                await client.post(
                    "https://api.anthropic.com/v1/messages",
                    headers={"Authorization": f"Bearer {account.access_token}"},
                    json={"model": "m", "messages": []},
                )

        workers(lambda: asyncio.run(call()))

    outcome = outcome_of(body, latency={"call": 2}, allow=["co-schedule"])
    assert outcome.error is None
    assert [event.t for event in outcome.history if event.type == "ok"] == [2, 4]
