"""Numbers of seconds that no clock comes to: refused as outside of a search, whoever waits; and no lock is copied."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
import queue
import threading
import time
from fractions import Fraction

import pytest

from pytest_claude_tokens.simulation.timeouts import LONGEST_SECONDS
from tests.unit.simulation.worlds import run_tasks, run_threads, stage

VALUES = [math.nan, math.inf, 1e300, 10**400, "5", Fraction(1, 2), b"1"]


def raised(function, *args, **options):
    """The kind of error."""
    try:
        function(*args, **options)
    except (TypeError, ValueError, OverflowError) as error:
        return type(error)
    raise AssertionError


def join(value):
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    try:
        thread.join(value)
    finally:
        thread.join()


def sleep(value):
    time.sleep(value)  # by its name: that of the search


def lock(value):
    taken = threading.Lock()
    taken.acquire()
    taken.acquire(timeout=value)


def rlock(value):
    threading.RLock().acquire(timeout=value)


def take(value):
    queue.SimpleQueue().get(timeout=value)


WAITS = [sleep, lock, rlock, take, join]


def test_a_thread_waits_as_long_as_it_could_outside():
    """Not until a time that is no number: it was never over, and the search neither."""

    def job():
        assert threading.Lock().acquire(timeout=LONGEST_SECONDS)
        time.sleep(True)
        return [raised(wait, value) for wait in WAITS for value in VALUES]

    outside = [raised(wait, value) for wait in WAITS for value in VALUES]
    with stage():
        assert run_threads(job) == [outside]


@pytest.mark.parametrize("delay", [math.nan, math.inf, 1e300])
def test_a_task_s_delay_is_finite_and_a_number(delay):
    """Asyncio takes all of them, and one that waits for ever can be cancelled; from 3.13 on it refuses what is none."""

    async def body():
        loop = asyncio.get_running_loop()
        if math.isnan(delay):
            for wait in (asyncio.sleep(delay), asyncio.wait_for(loop.create_future(), delay)):
                with pytest.raises(ValueError, match="NaN"):
                    await wait
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(delay), 1)
            assert math.isfinite(loop.call_later(delay, print).when())
        return loop.time()

    with stage():
        assert run_tasks(body) == (0 if math.isnan(delay) else 1)


def test_a_lock_is_neither_pickled_nor_copied():
    """As the real one: code that copies what holds a lock would work in a search alone."""

    def job():
        for made in (threading.Lock(), threading.RLock()):
            for take in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="cannot pickle '_thread"):
                    take(made)

    job()
    with stage():
        run_threads(job)
