"""How a run on the simulated loop ends: what is left goes without a word, what went wrong is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import types
import warnings

import pytest
from hypothesis import given, settings

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.tasks import MAX_CLOSES, close_task
from tests.unit.simulation.worlds import run_tasks, schedules, start, workers_of, world

pytestmark = pytest.mark.usefixtures("staged")


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
@pytest.mark.parametrize("closes", [0, 3, MAX_CLOSES + 5])
def test_a_task_that_waits_again_when_it_is_closed_goes_without_a_word(closes):
    """Also where another coroutine awaits it, which its stubbornness ends: the collector would meet it alone."""
    closed = []

    @types.coroutine
    def pause():
        yield

    async def stubborn():
        while True:
            try:
                await pause()
            except BaseException as error:
                closed.append(type(error))
                if len(closed) > closes:
                    raise

    async def outer():
        try:
            await stubborn()
        finally:
            closed.append("outer")

    loop = asyncio.new_event_loop()
    task = loop.create_task(outer())
    loop.close()
    task.get_coro().send(None)
    close_task(task)
    del task
    gc.collect()
    tries = min(closes + 1, MAX_CLOSES)
    assert closed == [GeneratorExit] * tries + ["outer"] * (closes < MAX_CLOSES)


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
        workers = workers_of(new, 2, simulated_loop=True)

        async def job():
            if WORKER.get() == "w0":
                start(killed())
                await killed()
            else:
                await asyncio.sleep(0.5)
                workers.end_worker("kill", 0)

        return await workers(job)

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
