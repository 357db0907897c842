"""The simulated loop: virtual time, limits, deadlocks, and a clean end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from time import sleep  # in a world: simulated seconds, which pass at once

import pytest
from hypothesis import given, settings

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation import loop as loop_module
from pytest_claude_tokens.simulation import scheduler, tasks
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
from pytest_claude_tokens.simulation.tasks import SimulatedTask
from pytest_claude_tokens.simulation.thread_record import Stuck
from tests.unit.simulation.worlds import crew_of, run_tasks, schedules, world

pytestmark = pytest.mark.usefixtures("staged")

ALWAYS_CLOCK = Schedule(deviations=(Deviation(0, "clock", 0, 10_000),))


def start(coroutine, **options):
    """A task that nobody keeps: the loop does."""
    return asyncio.create_task(coroutine, **options)


async def spin(until):
    while not until.done():
        await asyncio.sleep(0)


# Time.


def test_idle_time_passes_at_once():
    """Hours of sleep take no real time, and every clock agrees on them."""

    async def body():
        before = time.time(), time.monotonic(), asyncio.get_running_loop().time()
        await asyncio.sleep(7200)
        return [
            b - a
            for a, b in zip(before, (time.time(), time.monotonic(), asyncio.get_running_loop().time()), strict=True)
        ]

    assert run_tasks(body) == [7200, 7200, 7200]


def test_time_stands_still_while_somebody_can_run():
    """In default order a spinning task keeps every later timer from firing."""

    async def body():
        loop = asyncio.get_running_loop()
        fired = []
        loop.call_later(0.001, fired.append, "late")
        for _ in range(500):
            await asyncio.sleep(0)
        assert not fired
        await asyncio.sleep(1)
        return fired

    assert run_tasks(body) == ["late"]


def test_timer_that_is_due_does_not_wait_for_others_to_be_idle():
    """A spinning task must not hide a timer of no delay, as it would not in asyncio."""

    async def body():
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0, done.set_result, None)
        await spin(done)

    run_tasks(body)


def test_early_timers_move_time_by_a_minute_at_most():
    """However often the schedule fires timers early, it has sixty seconds for that in one run."""

    async def body():
        loop = asyncio.get_running_loop()
        fired = []
        for second in range(1, 200):
            loop.call_later(second, fired.append, second)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert loop.time() == 60
        return fired

    assert run_tasks(body, ALWAYS_CLOCK) == list(range(1, 61))


def test_timer_beyond_the_minute_never_fires_early():
    """What is left of the minute doesn't reach it."""

    async def body():
        fired = []
        asyncio.get_running_loop().call_later(61, fired.append, 1)
        for _ in range(100):
            await asyncio.sleep(0)
        return fired

    assert run_tasks(body, ALWAYS_CLOCK) == []


def test_cancelled_timers_are_skipped():
    """A time-out that was called off doesn't move the clock."""

    async def body():
        loop = asyncio.get_running_loop()
        for seconds in (1, 2, 3):
            loop.call_later(seconds, pytest.fail, "cancelled").cancel()
        async with asyncio.timeout(50):
            await asyncio.sleep(5)
        return loop.time()

    assert run_tasks(body) == 5


# Limits.


def test_endless_sleeping_ends_as_starved():
    """A day of simulated time is enough."""

    async def body():
        while True:
            await asyncio.sleep(100)

    with world() as new:
        loop = SimulatedLoop(new)
        with pytest.raises(Stuck):
            loop.run(body())
        loop.shut()
    assert new.starved == "no end after 86,400 s"


@pytest.mark.parametrize("tasks", [1, 3])
def test_endless_spinning_ends_as_starved(monkeypatch, tasks):
    """Of one task alone, too, which never leaves a choice."""
    monkeypatch.setattr(scheduler, "MAX_DECISIONS", 2000)

    async def body():
        await asyncio.gather(*[spin(asyncio.Future()) for _ in range(tasks)])

    with world() as new:
        loop = SimulatedLoop(new)
        with pytest.raises(Stuck):
            loop.run(body())
        loop.shut()
    assert new.starved == "no end after 2,000 decisions"


def test_deadlock_is_told_with_the_lines_where_tasks_wait():
    """Nobody can ever run again: the loop says so, and where, in the author's own code."""

    async def forever():
        await asyncio.Event().wait()

    async def generate():
        await forever()
        yield 1

    async def iterate():
        async for _ in generate():
            pass

    async def body():
        start(asyncio.Event().wait())  # of this there is nothing to tell
        await asyncio.gather(forever(), iterate())

    with world() as new:
        loop = SimulatedLoop(new)
        with pytest.raises(Stuck):
            loop.run(body())
        assert [line.partition(" waits at test_loop.py:")[0] for line in loop.pending()] == [
            "task-1",
            "task-3",
            "task-4",
        ]
        assert [line.rpartition(" in ")[2] for line in loop.pending()] == ["body", "forever", "iterate"]
        loop.shut()
        assert loop.pending() == []
    assert new.starved is None


@pytest.mark.parametrize("pause", [0, 1000])
def test_task_that_refuses_to_end_is_given_up(monkeypatch, pause):
    """What is cleaned up may take its simulated time, but the clearing has an end."""
    monkeypatch.setattr(scheduler, "MAX_DECISIONS", 3000)
    refused, ended = [], []

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(pause if refused else 10)
            except asyncio.CancelledError:
                refused.append(asyncio.current_task())

    async def orderly():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(200_000 if pause else 0)
            ended.append("ended")

    async def body():
        start(orderly())
        start(stubborn())
        await asyncio.sleep(1)

    run_tasks(body)
    assert ended == ["ended"]
    assert len(refused) == 1


# A clean end.


@pytest.fixture
def no_complaints(caplog):
    """Neither warnings nor log records, not even from the collector."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(each.message) for each in caught] == []
    assert caplog.records == []


@settings(max_examples=25)
@given(schedules())
def test_tasks_that_are_left_end_without_a_word(schedule):
    """Begun or not, they are cancelled; those that had begun run their ``finally`` blocks."""
    begun, ended = [], []

    async def background(number):
        begun.append(number)
        try:
            await asyncio.sleep(10_000)
        finally:
            await asyncio.sleep(1)
            ended.append(number)

    async def never():
        raise AssertionError

    async def body():
        for number in range(3):
            start(background(number))
        await asyncio.sleep(20)
        start(never())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_tasks(body, schedule)
    assert sorted(ended) == sorted(begun)


@pytest.mark.usefixtures("no_complaints")
def test_dead_and_stubborn_tasks_go_without_a_word():
    """A killed worker runs no more code before the end, and nobody hears of it after; nor of one that never began."""

    async def killed():
        try:
            await asyncio.sleep(1)
        finally:
            await asyncio.sleep(1)
            await asyncio.sleep(1)

    async def body(new):
        crew = crew_of(new, 2, simulated_loop=True)

        async def job():
            if WORKER.get() == "w0":
                start(killed())
                await killed()
            else:
                await asyncio.sleep(0.5)
                crew.strike("kill", 0)

        return await crew(job)

    with world() as new:
        loop = SimulatedLoop(new)
        assert loop.run(body(new)) == [None, None]
        loop.shut()


def test_generators_that_are_left_are_closed_in_the_order_of_their_beginning():
    """``async for`` with a break leaves one open; the loop closes it."""
    closed = []

    async def generate(number):
        try:
            yield number
        finally:
            await asyncio.sleep(0)
            closed.append(number)

    async def body():
        kept.extend(generate(number) for number in range(20))
        for each in kept:
            await anext(each)
        dropped = generate("dropped")
        await anext(dropped)
        del dropped
        await asyncio.sleep(1)
        assert closed == ["dropped"]

    kept: list = []
    run_tasks(body)
    assert sorted(closed[1:]) == list(range(20))
    assert closed[1:] == list(range(20))


def test_exception_of_a_callback_is_logged_as_usual(caplog):
    """It is not the test's result, but it is not lost."""

    async def body():
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    run_tasks(body)
    assert "ZeroDivisionError" in caplog.text


def test_exception_that_nobody_asks_for_is_logged_at_the_end(caplog):
    """In order, once, and not when the collector comes."""

    async def fail(text):
        raise ValueError(text)

    async def body():
        start(fail("one"))
        start(fail("two"))
        await asyncio.sleep(1)

    run_tasks(body)
    gc.collect()
    logged = [record.exc_info[1].args[0] for record in caplog.records if record.levelno == logging.ERROR]
    assert logged == ["one", "two"]


def test_interruption_of_a_task_comes_out_at_once():
    """As in asyncio, KeyboardInterrupt and SystemExit end the loop."""

    async def body():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run_tasks(body)


# What code can see of it.


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


# Jobs of executors.


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


def test_threads_that_spin_under_a_blocked_loop_starve(monkeypatch):
    """They are counted like everybody else."""
    monkeypatch.setattr(scheduler, "MAX_DECISIONS", 2000)

    def in_thread():
        while True:
            sleep(0)

    async def body():
        start(asyncio.to_thread(in_thread))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sleep(1)

    with world() as new:
        loop = SimulatedLoop(new)
        with pytest.raises(Stuck):
            loop.run(body())
        loop.shut()
    assert new.starved == "no end after 2,000 decisions"
