"""The workers of a run: their results, their errors, their deaths, and whether anything raced."""

from __future__ import annotations

import asyncio
import queue
import threading
from time import monotonic, sleep  # in a world: simulated seconds, which pass at once

import httpx
import pytest

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
from tests.unit.simulation.worlds import outcome_of, run_threads, workers_of, world
from tests.zoo.common import HELLO_URL

pytestmark = pytest.mark.usefixtures("staged")


def with_tasks(function, size=3):
    """What an ``async`` function of the workers returns."""
    with world(DEFAULT_ORDER, size) as new:
        loop = SimulatedLoop(new)
        try:
            return loop.run(function(workers_of(new, size, simulated_loop=True)))
        finally:
            loop.shut()


def with_threads(function, size=3):
    """The same for a plain one."""
    with world(DEFAULT_ORDER, size) as new:
        return function(workers_of(new, size, simulated_loop=False))


async def name():
    await asyncio.sleep(1)
    return WORKER.get()


def thread_name():
    sleep(1)
    return WORKER.get()


def test_one_function_runs_in_every_worker_and_several_in_one_each():
    """Side by side, each under its name, with the results in their order."""

    async def tasks(workers):
        assert len(workers) == 3
        assert await workers(name) == ["w0", "w1", "w2"]
        assert await workers(name, name, lambda: "not awaited") == ["w0", "w1", "not awaited"]
        assert await workers(name, per_worker=2) == [["w0"] * 2, ["w1"] * 2, ["w2"] * 2]
        return monotonic()

    def threads(workers):
        assert workers(thread_name) == ["w0", "w1", "w2"]
        assert workers(thread_name, thread_name, lambda: 3) == ["w0", "w1", 3]
        assert workers(thread_name, per_worker=2) == [["w0"] * 2, ["w1"] * 2, ["w2"] * 2]
        return monotonic()

    assert with_tasks(tasks) == 4
    assert with_threads(threads) == 4


@pytest.mark.parametrize("run", [with_tasks, with_threads])
def test_as_many_functions_as_workers(run):
    """Or one; anything else is a mistake."""

    def wrong(workers):
        with pytest.raises(TypeError, match="one for each of the 3 workers"):
            workers(name, name)
        with pytest.raises(TypeError):
            workers()
        with pytest.raises(ValueError, match="1 or more"):
            workers(name, per_worker=0)

    async def wrong_too(workers):
        wrong(workers)

    run(wrong_too if run is with_tasks else wrong)


def test_all_run_to_their_end_then_the_first_error_is_raised():
    """By worker, not by time; the others are told in notes, under their own names."""
    ended = []

    def job():
        number = int(WORKER.get()[1:])
        sleep(10 - number)
        ended.append(number)
        if number:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1") as caught:
        run_threads(job, job, job)
    assert ended == [2, 1, 0]
    assert caught.value.__notes__ == ["w2 raised ValueError: 2"]


def test_error_of_a_task_is_told_under_its_own_name():
    """Where one before it was cancelled, too."""

    async def body(workers):
        async def cancelled():
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        async def fails(number):
            await asyncio.sleep(number)
            raise ValueError(number)

        await workers(cancelled, lambda: fails(1), lambda: fails(2))

    with pytest.raises(ValueError, match="1") as caught:
        with_tasks(body)
    assert caught.value.__notes__ == ["w2 raised ValueError: 2"]


@pytest.mark.parametrize("error", [SystemExit(3), pytest.skip.Exception("why"), pytest.fail.Exception("why")])
def test_what_is_no_exception_comes_out_of_a_thread_too(error):
    """``pytest.fail`` in a worker is none; it must not be a deadlock."""

    def job():
        raise error

    with pytest.raises(type(error)):
        run_threads(job, lambda: None)


def test_round_that_is_cancelled_cancels_its_workers():
    """As ``gather`` does."""
    ended = []

    async def body(workers):
        async def job():
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(WORKER.get())

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(workers(job), 5)
        await asyncio.sleep(0)
        return monotonic()

    assert with_tasks(body) == 5
    assert sorted(ended) == ["w0", "w1", "w2"]


def test_round_in_a_thread_of_the_body():
    """It waits there, and is woken there."""

    def body(workers):
        results = []
        thread = threading.Thread(target=lambda: results.extend(workers(thread_name)))
        thread.start()
        thread.join()
        return results

    assert with_threads(body) == ["w0", "w1", "w2"]


# Deaths.


def test_task_that_is_killed_is_not_waited_for():
    """Nor in the next round, nor the one after all have died."""
    seen = []

    async def body(workers):
        async def job():
            try:
                await asyncio.sleep(10)
                seen.append(WORKER.get())
            finally:
                await asyncio.sleep(0)

        async def strike(number):
            await asyncio.sleep(1)
            workers.end_worker("kill", number)

        killer = asyncio.create_task(strike(1))
        first = await workers(name_after(job))
        second = await workers(name_after(job))
        asyncio.create_task(strike(0)), asyncio.create_task(strike(2))
        third = await workers(name_after(job))
        fourth = await workers(name_after(job))
        del killer
        return [first, second, third, fourth]

    def name_after(job):
        async def run():
            await job()
            return WORKER.get()

        return run

    nobody = [None] * 3
    assert with_tasks(body) == [["w0", None, "w2"], ["w0", None, "w2"], nobody, nobody]
    assert seen == ["w0", "w2"] * 2


def test_thread_that_is_killed_is_not_waited_for():
    """Nor begun in the next round; the body's sleep in between is as long as it says."""

    def body(workers):
        def strike():
            sleep(1)
            workers.end_worker("kill", 1)

        first = workers(thread_name, lambda: sleep(10), strike)
        sleep(5)
        second = workers(thread_name)
        return first, second, monotonic()

    assert with_threads(body) == (["w0", None, None], ["w0", None, "w2"], 7)


def test_late_blow_does_not_wake_the_body():
    """A worker that dies in the second round was in the first, too."""

    def body(workers):
        workers(thread_name)

        def strike():
            sleep(1)
            workers.end_worker("kill", 1)
            sleep(20)

        workers(thread_name, lambda: sleep(100), strike)
        return monotonic()

    assert with_threads(body) == 22


def test_blow_that_hits_nobody():
    """A number beyond the workers, or a worker that is not at work, is not noted."""
    noted = []
    with world(DEFAULT_ORDER, 2) as new:
        workers = workers_of(new, 2, simulated_loop=True)
        workers._journal.note = lambda what, actor: noted.append((what, actor))
        workers.end_worker("kill", 2)
        workers.end_worker("cancel", 1)
        workers._begin(1)
        workers.end_worker("cancel", 1)  # its task is not known: it is somebody's own
    assert noted == [("cancel", "w1")]


def test_killed_task_in_the_queue_for_a_lock_leaves_it():
    """Whether it still waits or its turn has just come; the next one gets the lock."""
    for at in (5, 10):

        async def body(workers, at=at):
            lock = asyncio.Lock()
            condition = asyncio.Condition(lock)
            had = []

            async def holder():
                async with lock:
                    await asyncio.sleep(10)
                if at == 10:
                    workers.end_worker("kill", 1)

            async def waiter(seconds):
                await asyncio.sleep(seconds)
                async with condition:
                    had.append(WORKER.get())

            async def strike():
                await asyncio.sleep(5)
                if at == 5:
                    workers.end_worker("kill", 1)

            task = asyncio.create_task(strike())
            await workers(holder, lambda: waiter(1), lambda: waiter(2))
            await task
            return had

        assert with_tasks(body) == ["w2"]


def test_cancelled_worker_is_cancelled_at_its_await():
    """By the schedule; the body sees ``None`` for it."""
    results = []

    async def body(claude_tokens, workers):
        async def job():
            async with httpx.AsyncClient() as client:
                for _ in range(3):
                    await client.get(HELLO_URL)
            return WORKER.get()

        results.append(await workers(job))

    outcome = outcome_of(body, Schedule(deviations=(Deviation(6, "cancel", 1, 1),)))
    assert outcome.error is None
    assert results == [["w0", None]]
    assert [event.actor for event in outcome.history if event.f == "cancel"] == ["w1"]


# What raced.


def raced(body, workers=2):
    return outcome_of(body, workers=workers).raced


def test_request_while_another_works_is_a_race():
    """Whoever began first; waiting for a lock is work."""

    async def both(claude_tokens, workers):
        await workers(ask)

    async def one(claude_tokens, workers):
        await workers(ask, lambda: asyncio.sleep(0))

    async def in_turn(claude_tokens, workers):
        lock = asyncio.Lock()

        async def job():
            async with lock:
                await ask()

        await workers(job)

    assert raced(both)
    assert raced(one)
    assert raced(in_turn)


async def ask():
    async with httpx.AsyncClient() as client:
        await client.get(HELLO_URL)


def test_workers_one_after_the_other_race_not():
    """Nor does the body's own request, nor one worker with itself."""

    async def apart(claude_tokens, workers):
        await ask()

        async def job():
            await asyncio.sleep(1)
            await asyncio.gather(ask(), ask())

        await workers(job, lambda: asyncio.sleep(0))
        await ask()

    async def body_before(claude_tokens, workers):
        other = asyncio.create_task(ask())
        await asyncio.sleep(0.001)
        await workers(lambda: asyncio.sleep(0))
        await other

    async def body_meanwhile(claude_tokens, workers):
        async def job():
            await asyncio.sleep(1)

        async def other():
            await asyncio.sleep(0.5)
            await ask()

        task = asyncio.create_task(other())
        await workers(job, lambda: asyncio.sleep(0))
        await task

    assert not raced(apart)
    assert not raced(body_before)
    assert not raced(body_meanwhile)
    assert not raced(both_of_one, workers=1)


def test_one_task_that_serves_all_workers_races():
    """A dispatcher that sends the requests of all by itself: while it does, the others' jobs wait."""

    async def actor(claude_tokens, workers):
        waiting = asyncio.Queue()

        async def serve():
            while True:
                future = await waiting.get()
                await ask()
                future.set_result(None)

        async def job():
            future = asyncio.get_running_loop().create_future()
            await waiting.put(future)
            await future

        serving = asyncio.create_task(serve())
        await workers(job)
        serving.cancel()

    def threads(claude_tokens, workers):
        jobs = queue.Queue()

        def serve():
            with httpx.Client() as client:
                while (done := jobs.get()) is not None:
                    client.get(HELLO_URL)
                    done.set()

        def job():
            done = threading.Event()
            jobs.put(done)
            done.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        workers(job)
        jobs.put(None)
        thread.join()

    assert raced(actor)
    assert not raced(actor, workers=1)
    assert raced(threads)
    assert not raced(threads, workers=1)


async def both_of_one(claude_tokens, workers):
    await workers(lambda: asyncio.gather(ask(), ask()))


def test_worker_that_begins_under_an_open_request_races():
    """It was sent by a task that its worker had left behind."""

    async def body(claude_tokens, workers):
        left = []

        async def leave():
            left.append(asyncio.create_task(ask()))
            await asyncio.sleep(1)

        async def late():
            pass

        await workers(leave, late)
        await workers(late)
        await left[0]

    slow = Schedule(deviations=(Deviation(0, "slow", 0, 4000),))
    assert outcome_of(body, slow).raced
