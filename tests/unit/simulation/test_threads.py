"""Threads that workers start: whose they are, how they live, and how a world of theirs may lie in another."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures import wait as wait_for_all
from time import sleep  # in a world: simulated seconds, which pass at once

import pytest

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.thread_record import WouldWait
from pytest_claude_tokens.simulation.threads import outside
from pytest_claude_tokens.simulation.world import World
from tests.unit.simulation.worlds import put_in, run_threads, world

pytestmark = pytest.mark.usefixtures("staged", "no_threads_left")


def test_outside_of_a_world_a_call_is_a_call():
    """Which thread makes it, too."""
    assert outside(World.__new__(World), threading.get_ident) == threading.get_ident()


def test_thread_of_a_worker_is_that_workers():
    """And so are its threads, its timers, and its jobs in a pool, whoever started the pool's thread."""
    seen = []

    def note(what):
        sleep(0.1)
        seen.append((what, WORKER.get()))

    def job():
        thread = threading.Thread(target=lambda: (note("thread"), inner()))
        thread.start()
        timer = threading.Timer(1, note, ["timer"])
        timer.start()
        pool[0].submit(note, "pool").result()
        thread.join()
        timer.join()

    def inner():
        child = threading.Thread(target=note, args=["child"])
        child.start()
        child.join()

    pool = [None]
    run_threads(job, job, first=lambda: put_in(pool, lambda: ThreadPoolExecutor(1)))
    assert sorted(seen) == sorted((what, f"w{n}") for n in range(2) for what in ("thread", "child", "timer", "pool"))


def test_pool_from_before_keeps_its_limit_in_every_run():
    """One at module level, as dispatchers have: its threads are of no world, so each world has its own for it."""
    before = ThreadPoolExecutor(2)

    def job():
        done = [before.submit(sleep, 1) for _ in range(3)]
        wait_for_all(done)
        assert [each.result() for each in as_completed(done)] == [None] * 3
        return time.monotonic()

    assert [max(run_threads(job, job)) for _ in range(3)] == [3, 3, 3]
    before.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        run_threads(job)


def test_job_of_a_pool_whose_world_has_ended_is_not_begun():
    """Its thread was blocked outside, and comes back to the next job when all is over."""
    reader, writer = os.pipe()
    seen, threads = [], []

    def job():
        pool = ThreadPoolExecutor(1)
        pool.submit(lambda: (threads.append(threading.current_thread()), os.read(reader, 1)))
        pool.submit(seen.append, 1)
        sleep(1)

    run_threads(job)
    os.write(writer, b"x")
    threads[0].join(5)
    os.close(reader)
    os.close(writer)
    assert seen == []


def test_pools_that_are_left_end_without_a_word(caplog):
    """Nobody has shut them down; their threads end with the world, and ``concurrent.futures`` doesn't complain."""

    def job():
        ThreadPoolExecutor(3).submit(sleep, 1).result()

    run_threads(job, job)
    assert caplog.records == []
    logging.getLogger("concurrent.futures").critical("Exception in worker", exc_info=(ValueError, ValueError(), None))
    assert len(caplog.records) == 1


def test_pool_outside_a_world_is_as_ever():
    """The patches stand, and nothing is different."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(WORKER.get).result() is None


def test_names_without_the_numbers_that_the_process_counts():
    """They would differ from run to run; names of one's own stay."""
    names = []

    def job():
        for name in (None, "mine"):
            thread = threading.Thread(target=lambda: names.append(threading.current_thread().name), name=name)
            thread.start()
            thread.join()
        ThreadPoolExecutor(1).submit(lambda: names.append(threading.current_thread().name)).result()

    run_threads(job)
    first = list(names)
    names.clear()
    run_threads(job)
    assert names == first
    assert first[1] == "mine"


def test_life_of_a_thread():
    """Started once, alive until its end, joined as often as one likes, by anybody but itself."""

    def job():
        thread = threading.Thread(target=sleep, args=[2], daemon=False)
        with pytest.raises(RuntimeError, match="before it is started"):
            thread.join()
        assert not thread.is_alive()
        thread.start()
        with pytest.raises(RuntimeError, match="only be started once"):
            thread.start()
        assert thread.is_alive()
        assert not thread.daemon
        thread.join(1)
        assert thread.is_alive()
        thread.join()
        thread.join()
        assert not thread.is_alive()
        with pytest.raises(RuntimeError, match="join current thread"):
            threading.current_thread().join()
        return time.monotonic()

    assert run_threads(job) == [2]


def test_join_that_timed_out_does_not_wake_a_later_sleep():
    """The end of the thread is of no interest any more."""

    def job():
        thread = threading.Thread(target=sleep, args=[2])
        thread.start()
        thread.join(1)
        sleep(10)
        return time.monotonic()

    assert run_threads(job) == [11]


def test_exception_of_a_thread_goes_where_it_always_goes(monkeypatch):
    """To ``threading.excepthook``; the others go on."""
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))

    def job():
        thread = threading.Thread(target=lambda: 1 // 0)
        thread.start()
        thread.join()

    run_threads(job)
    assert told == [ZeroDivisionError]


def test_thread_local_values_are_each_threads_own():
    """The threads are real ones."""
    local = threading.local()

    def job():
        local.value = WORKER.get()
        sleep(1)
        return local.value

    assert run_threads(job, job) == ["w0", "w1"]


def test_switch_interval_is_of_no_account():
    """Nobody but the holder of the baton runs, however often the interpreter would switch."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        total = [0]

        def job():
            for _ in range(300):
                value = total[0]
                sum(range(30))
                total[0] = value + 1

        run_threads(job, job, job)
        assert total == [900]
    finally:
        sys.setswitchinterval(before)


# Callables that stand for a store.


def test_asking_never_switches_and_never_waits():
    """What can't be said at once isn't said."""
    with world() as new:
        lock = threading.Lock()
        seen = []
        threading.Thread(target=seen.append, args=[1], daemon=True).start()

        def look():
            with lock:
                sleep(0)
                return "looked"

        before = len(seen)
        assert new.ask(look) == "looked"
        assert len(seen) == before
        lock.acquire()
        with pytest.raises(WouldWait, match=r"waits for the lock that main \(test_threads.py:\d+\) holds"):
            new.ask(look)
        with pytest.raises(WouldWait, match="waits for time"):
            new.ask(lambda: sleep(1))
        assert not new.asking


def test_worlds_may_be_nested():
    """A body may run another search: the outer world goes on where it was."""

    def job():
        sleep(1)
        inner = run_threads(lambda: (sleep(5), time.monotonic())[1])
        sleep(1)
        return inner, time.monotonic()

    assert run_threads(job, job) == [([5], 2), ([5], 2)]
