"""The simulated loop as code on it sees it: asyncio's own, but for threads that take turns."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import sleep  # in a world: simulated seconds, which pass at once

import pytest
from hypothesis import given, settings

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation import loop as loop_module
from pytest_claude_tokens.simulation import tasks
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.schedule import Schedule
from pytest_claude_tokens.simulation.tasks import SimulatedTask
from tests.unit.simulation.worlds import run_tasks, schedules, start, world

pytestmark = pytest.mark.usefixtures("staged")


def test_loop_runs_and_knows_it():
    """``is_running`` and ``get_running_loop`` tell the truth, inside and outside."""

    async def body():
        loop = asyncio.get_running_loop()
        assert loop.is_running()
        assert not loop.is_closed()
        return loop

    loop = run_tasks(body)
    assert loop.is_closed()
    assert not loop.is_running()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(print)


def test_debug_mode_finds_nothing_to_complain_about():
    """Its check that calls come from the loop's own thread knows the baton."""

    async def body():
        asyncio.get_running_loop().set_debug(True)
        return await asyncio.to_thread(lambda: 3)

    assert run_tasks(body) == 3


def test_tasks_and_futures_have_numbers_for_hashes():
    """So a set of them has the same order in every run."""

    async def body():
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
        futures = [loop.create_future() for _ in range(3)]
        named = asyncio.create_task(asyncio.sleep(0), name="mine")
        return [hash(each) for each in (*tasks, *futures)], [task.get_name() for task in (*tasks, named)]

    hashes, names = run_tasks(body)
    assert len(set(hashes)) == 6
    assert run_tasks(body) == (hashes, names)
    assert names == ["task-2", "task-3", "task-4", "mine"]


def test_context_goes_where_it_does_in_asyncio():
    """A task has a copy of its maker's context, or the one that it was given."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def read():
        return variable.get("unset")

    async def body():
        variable.set("body")
        empty = contextvars.Context()
        return [
            await asyncio.create_task(read()),
            await asyncio.create_task(read(), context=empty),
            await asyncio.to_thread(variable.get),
        ]

    assert run_tasks(body) == ["body", "unset", "body"]


def test_task_factories():
    """The default one is ours; another one may be set, and its tasks are cancelled at the end, too."""
    ended = []

    async def wait(name):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def body():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
        start(wait("b"), name="b")
        start(wait("a"), name="a")
        await asyncio.sleep(0)
        loop.set_task_factory(None)
        task = asyncio.create_task(asyncio.sleep(0))
        assert isinstance(task, SimulatedTask)
        await task

    run_tasks(body)
    assert ended == ["a", "b"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_eager_tasks_begin_at_once_and_have_numbers():
    """asyncio's factory for them is understood; so is a task that ends before it was made."""

    async def record(text, wait):
        seen.append((text, WORKER.get()))
        await asyncio.sleep(wait)

    async def at_once():
        seen.append("at once")

    async def body():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        WORKER.set("w2")
        task = asyncio.create_task(record("eager", 1))
        assert seen == [("eager", "w2")]
        assert isinstance(task, SimulatedTask)
        assert task.worker == 2
        done = asyncio.create_task(at_once())
        assert done.done()
        assert seen[1:] == ["at once"]
        start(record("left", 10_000))
        await task

    seen: list = []
    run_tasks(body)


def test_eager_factory_is_known_by_its_identity(monkeypatch):
    """On each version of Python that has one."""

    def eager(loop, coro, **options):
        raise AssertionError

    monkeypatch.setattr(loop_module, "_EAGER", eager)
    with world() as new:
        loop = SimulatedLoop(new)
        loop.set_task_factory(eager)
        monkeypatch.setattr(loop, "_make_task", lambda coro, **options: (coro, options))
        assert loop.create_task("coroutine", name="x") == ("coroutine", {"eager_start": True, "name": "x"})
        loop.shut()


def test_coroutine_that_refuses_even_its_close_is_given_up():
    """After so many tries it is left as it is, and never deleted: it would be closed once more."""

    async def refuse():
        while len(refused) < 10_000:
            try:
                await asyncio.sleep(1000)
            except BaseException:
                refused.append(1)

    async def body():
        start(refuse())
        await asyncio.sleep(1)

    refused: list[int] = []
    run_tasks(body)
    gc.collect()
    assert tasks.MAX_CLOSES <= len(refused) < tasks.MAX_CLOSES + 20


@settings(max_examples=200)
@given(schedules())
def test_no_handle_is_lost_while_the_loops_thread_waits_for_a_lock(schedule):
    """A thread that hands over meanwhile must not hand it one: it is in the middle of another."""

    async def body():
        lock = threading.Lock()
        with ThreadPoolExecutor(2) as pool:

            def in_thread():
                with lock:
                    sleep(0)

            async def job():
                for _ in range(3):
                    await asyncio.get_running_loop().run_in_executor(pool, in_thread)
                    with lock:
                        passed.append(1)

            await asyncio.gather(job(), job(), job())

    passed: list[int] = []
    run_tasks(body, schedule)
    assert len(passed) == 9


def test_threads_race_while_the_loops_thread_is_blocked():
    """One lets go of the lock for which that waits, and goes on: either may be first."""

    async def body():
        lock, other, about = threading.Lock(), threading.Lock(), []
        seen.clear()

        def in_thread():
            with lock:
                about.append("held")
                while "waiting" not in about:
                    sleep(0.01)
            with other:
                seen.append("thread")

        WORKER.set("w0")  # the thread's name in the schedule
        job = asyncio.create_task(asyncio.to_thread(in_thread))
        while not about:
            await asyncio.sleep(0.01)
        about.append("waiting")
        with lock:
            seen.append("loop")
        await job

    seen: list[str] = []
    orders = set()
    for seed in range(60):
        run_tasks(body, Schedule(kind="walk", seed=seed))
        orders.add(tuple(seen))
    assert orders == {("thread", "loop"), ("loop", "thread")}


def test_debug_mode_minds_no_thread():
    """Whoever has the baton may call: a worker is cancelled from a thread, say."""

    async def body():
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        await asyncio.to_thread(loop.call_soon, called.append, 1)
        await asyncio.sleep(0)

    called: list[int] = []
    run_tasks(body)
    assert called == [1]


def test_no_processes_and_no_network_of_its_own():
    """Both are refused in words."""

    async def body():
        with pytest.raises(NotImplementedError, match="processes=True"):
            await asyncio.create_subprocess_exec("true")
        with pytest.raises(OSError, match="no network"):
            await asyncio.open_connection("platform.claude.com", 443)

    run_tasks(body)
