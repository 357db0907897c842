"""Jobs that tasks hand to executors, and what blocks the loop meanwhile."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from _thread import get_ident, start_new_thread
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from time import sleep  # in a world: simulated seconds, which pass at once

import pytest

from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER
from tests.unit.simulation.worlds import ALWAYS_CLOCK, run_tasks, start, world

pytestmark = pytest.mark.usefixtures("staged")


def hello(error=None):
    sleep(1)
    if error is not None:
        raise error
    return "hello"


@pytest.mark.parametrize("schedule", [DEFAULT_ORDER, ALWAYS_CLOCK], ids=["stock", "clock"])
def test_job_in_a_thread_gives_its_result_or_its_error(schedule):
    """Whatever it is: what is no ``Exception`` is not lost, either."""

    async def body():
        assert await asyncio.to_thread(hello) == "hello"
        for error in (ValueError("no"), SystemExit(2), KeyboardInterrupt()):
            with pytest.raises(type(error)):
                await asyncio.to_thread(hello, error)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.to_thread(hello, asyncio.CancelledError())

    run_tasks(body, schedule)


def test_jobs_run_side_by_side_in_simulated_time():
    """Each has a thread of its own; waiting for the default executor to end is for nobody's sake."""

    async def body():
        await asyncio.gather(*[asyncio.to_thread(hello) for _ in range(20)])
        await asyncio.get_running_loop().shutdown_default_executor()
        return time.monotonic()

    assert run_tasks(body) == 1


def test_job_that_nobody_waits_for_any_more():
    """Its end is of no interest, and nothing breaks."""

    async def body():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(hello), 0.5)
        await asyncio.sleep(5)

    run_tasks(body)


OUTER = ThreadPoolExecutor(2)


@pytest.mark.parametrize("kind", ["inner", "outer", "default"])
def test_pool_of_threads_keeps_its_limit(kind):
    """A dispatcher may rely on a pool of one thread to serialize; so pools are obeyed, those from before, too."""

    async def body():
        loop = asyncio.get_running_loop()
        pool = OUTER if kind == "outer" else ThreadPoolExecutor(2)
        if kind == "default":
            loop.set_default_executor(pool)
        given = None if kind == "default" else pool
        jobs = [loop.run_in_executor(given, hello) for _ in range(6)]
        late = loop.run_in_executor(given, hello)
        late.cancel()
        assert await asyncio.gather(*jobs) == ["hello"] * 6
        await asyncio.sleep(0)
        return time.monotonic()

    assert [run_tasks(body) for _ in range(3)] == [3, 3, 3]


class Bare(Executor):
    """Runs each job in a thread that no search knows, and waits for its end."""

    def submit(self, job, *args, **options):
        ended, queued = [], Future()

        def work():
            sys.settrace(threading.gettrace())  # else coverage looks at the threads of `threading` alone
            try:
                job()
            finally:
                ended.append(True)

        start_new_thread(work, ())
        while not ended:  # a lock would be a simulated one
            pass
        queued.set_result(None)
        return queued


def test_a_job_may_run_in_a_thread_that_no_search_knows():
    """Its result arrives all the same; its requests are nobody's."""

    async def body():
        here = get_ident()
        return here != await asyncio.get_running_loop().run_in_executor(Bare(), get_ident)

    assert run_tasks(body)


def test_pool_of_processes_is_played_by_threads():
    """Nothing leaves the process."""

    async def body():
        with ProcessPoolExecutor(1) as pool:
            return await asyncio.get_running_loop().run_in_executor(pool, hello)

    assert run_tasks(body) == "hello"


def test_blocking_call_on_the_loop_stops_all_tasks_but_no_threads():
    """``time.sleep`` in a coroutine, the old mistake, shows."""
    seen = []

    def in_thread():
        for _ in range(3):
            sleep(1)
            seen.append(("thread", time.monotonic()))

    async def ticking():
        while True:
            await asyncio.sleep(1)
            seen.append(("task", time.monotonic()))

    async def body():
        start(ticking())
        job = asyncio.create_task(asyncio.to_thread(in_thread))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sleep(2.5)
        await job

    run_tasks(body)
    assert seen[:2] == [("thread", 1), ("thread", 2)]
    assert ("task", 2.5) in seen


def test_time_passes_for_a_blocked_loop_while_threads_merely_spin():
    """As it does in reality."""
    spun = []

    def in_thread():
        while True:
            sleep(0)
            spun.append(1)

    async def body():
        start(asyncio.to_thread(in_thread))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sleep(1)
        return asyncio.get_running_loop().time()

    with world() as new:
        loop = SimulatedLoop(new)
        assert 1 <= loop.run(body()) < 1.1
        loop.shut()
    assert new.starved is None
    assert len(spun) > 100
