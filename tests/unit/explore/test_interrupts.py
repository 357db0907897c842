"""Ctrl-C ends a search from any point of it: it gets out, nothing else is told, and everything is restored."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import weakref
from itertools import count

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from pytest_claude_tokens import explore
from pytest_claude_tokens.simulation import takeover
from tests.unit.explore.common import HELLO_URL, TOKEN_URL, quick, refreshing
from tests.unit.explore.interrupting import assert_interrupted, at, hello, interrupt

# Where the signal comes.


@pytest.mark.parametrize("wanted", [1, 2, 50, 101])
def test_in_a_worker_while_the_body_waits_for_the_baton(wanted):
    """In the search's first run, in Hypothesis's part of the search, and in the part without it."""
    tick = at(wanted)

    @quick
    @explore(workers=3)
    def test(workers):
        lock = threading.Lock()

        def job():
            with lock:
                tick()
                hello()

        workers(job)

    assert_interrupted(test)


@pytest.mark.parametrize("wanted", [1, 40])
def test_in_a_task(wanted):
    tick = at(wanted)

    @quick
    @explore(workers=2)
    async def test(workers):
        async def job():
            async with httpx.AsyncClient() as client:
                tick()
                await client.get(HELLO_URL)

        await workers(job)

    assert_interrupted(test)


def test_in_an_executor_of_a_task():
    """The main thread waits for its loop's next handle."""

    @quick
    @explore(workers=2)
    async def test(workers):
        async def job():
            await asyncio.to_thread(lambda: (interrupt(), time.sleep(1)))

        await workers(job)

    assert_interrupted(test)


def test_while_arguments_are_drawn():
    tick = at(30)

    @quick
    @explore(workers=2, number=st.integers().map(lambda value: (tick(), value)))
    def test(workers, number):
        workers(hello)

    assert_interrupted(test)


@pytest.mark.parametrize("wanted", [2, 3, 5])
def test_after_a_failure_was_found(wanted):
    """While it is shrunk, confirmed and repeated: what is found is not told, as it was not confirmed."""
    tick = at(wanted)

    @quick
    @explore(workers=2)
    def test(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        tick()
        workers(lambda: httpx.post(TOKEN_URL, json=refreshing(account.refresh_token)))

    assert_interrupted(test)


def test_while_arguments_are_shrunk():
    """Hypothesis holds a failure in its hands, which must not take the place of the interrupt."""
    failures = count(1)

    @quick
    @explore(workers=2, number=st.integers(0, 1000))
    def test(workers, number):
        workers(hello)
        if number > 10:
            if next(failures) == 4:
                interrupt()
            raise ValueError

    assert_interrupted(test)


def test_in_a_callback_whose_exceptions_the_interpreter_drops():
    """It goes on when it is dropped, and ends at the next opportunity; other exceptions are told as before."""
    told = []

    class Thing:
        pass

    @quick
    @explore(workers=2)
    def test(workers):
        def dropped(_):
            interrupt()
            for _ in range(1000):  # the handler runs in here, in the main thread
                pass

        def other(_):
            raise ValueError

        for callback in (other, dropped):
            thing = Thing()
            seen = weakref.ref(thing, callback)
            del thing
            assert seen() is None
        until = time.thread_time() + 20
        while time.thread_time() < until:  # no switch point
            pass

    hook, sys.unraisablehook = sys.unraisablehook, lambda problem: told.append(problem.exc_type)
    try:
        assert_interrupted(test)
    finally:
        sys.unraisablehook = hook
    assert told == [ValueError]


def test_in_our_own_code_it_waits_for_that_of_the_test():
    """In the fixture's own code it is kept; the test's code then has no switch point, and is told all the same."""

    @quick
    @explore(workers=2)
    def test(claude_tokens, workers):
        claude_tokens.server.journal.observers.append(lambda event: interrupt())
        claude_tokens.account()
        until = time.thread_time() + 20
        while time.thread_time() < until:
            pass

    assert_interrupted(test)


def test_with_processes(tmp_path):
    """The processes are ended."""
    mark = tmp_path / "ended"

    @settings(quick, max_examples=3)
    @explore(workers=2, processes=True)
    def test(workers):
        timer = threading.Timer(0.2, interrupt)
        timer.start()
        workers(["/bin/sh", "-c", f"sleep 20; touch {mark}"])

    started = time.monotonic()
    assert_interrupted(test)
    assert time.monotonic() - started < 15
    assert not mark.exists()


def test_while_the_body_waits_for_a_process():
    @settings(quick, max_examples=3)
    @explore(workers=2, processes=True)
    def test(claude_tokens, workers):
        process = claude_tokens.spawn(["/bin/sleep", "20"])
        timer = threading.Timer(0.1, interrupt)
        timer.start()
        process.wait()

    assert_interrupted(test)


# What the test does about it.


@pytest.mark.parametrize("swallowing", [BaseException, KeyboardInterrupt])
def test_a_body_that_swallows_it_is_ended_all_the_same(swallowing):
    @quick
    @explore(workers=2)
    def test(workers):
        def job():
            try:
                interrupt()
                hello()
            finally:
                hello()

        while True:
            try:
                workers(job)
            except swallowing:
                break
        workers(hello)

    assert_interrupted(test)


def test_a_task_that_swallows_it_is_ended_all_the_same():
    @quick
    @explore(workers=2)
    async def test(workers):
        async def job():
            while True:
                try:
                    interrupt()
                    await asyncio.sleep(1)
                except KeyboardInterrupt:
                    await asyncio.sleep(1)

        await workers(job)

    assert_interrupted(test)


def test_the_body_may_clean_up():
    """In its own ``finally`` blocks and those of its tasks; locks that are free are taken and released as always."""
    cleaned = []

    @quick
    @explore(workers=2)
    def threads(workers):
        lock, condition = threading.Lock(), threading.Condition()
        try:
            with condition:
                interrupt()
                condition.wait()
        finally:
            time.sleep(0)
            with lock:
                cleaned.append("threads")

    @quick
    @explore(workers=2)
    async def tasks(workers):
        async def job():
            try:
                await asyncio.sleep(5)
            finally:
                await asyncio.sleep(5)
                cleaned.append("task")

        await asyncio.gather(workers(job), asyncio.to_thread(interrupt))

    assert_interrupted(threads)
    assert_interrupted(tasks)
    assert cleaned == ["threads", "task", "task"]


def test_a_clean_up_without_end_is_cut_short(monkeypatch):
    monkeypatch.setattr("pytest_claude_tokens.simulation.interrupts.CLEAN_UP_SECONDS", 0.05)

    @quick
    @explore(workers=2)
    def test(workers):
        try:
            interrupt()
            time.sleep(1)
        finally:
            while True:
                time.sleep(0)

    assert_interrupted(test)


def test_a_worker_that_computes_is_left_behind(monkeypatch):
    """It loses the baton, since it does not come to a switch point."""
    monkeypatch.setattr(takeover, "HOLDER_SECONDS", 0.05)
    over = threading.Event()

    @quick
    @explore(workers=2)
    def test(workers):
        def job():
            hello()
            interrupt()
            while not over.is_set():
                pass

        workers(job)

    try:
        assert_interrupted(test)
    finally:
        over.set()


def test_a_worker_that_waits_outside_is_left_behind():
    """Nobody has the baton then."""
    reader, writer = os.pipe()

    @quick
    @explore(workers=2)
    def test(workers):
        def job():
            hello()
            os.read(reader, 1)

        workers(job)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    try:
        assert_interrupted(test)
    finally:
        timer.join()
        os.close(writer)
        os.close(reader)
