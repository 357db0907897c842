"""How a run of threads ends: in a deadlock, in starvation, or with threads that are left over."""

from __future__ import annotations

import queue
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import sleep  # in a world: simulated seconds, which pass at once

import pytest

from pytest_claude_tokens.simulation import baton, scheduler
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Schedule
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck
from tests.unit.simulation.worlds import run_threads, workers_of, world

pytestmark = pytest.mark.usefixtures("staged", "no_threads_left")


def stuck(*jobs, first=None):
    """The world in which these jobs get stuck."""
    with world(DEFAULT_ORDER, len(jobs)) as new:
        if first is not None:
            first()
        with pytest.raises(Stuck):
            workers_of(new, len(jobs), simulated_loop=False)(*jobs)
        return new, new.waits()


def test_deadlock_is_told_by_who_waits_for_whom():
    """Each by its name and line, with the holder's; conditions, events and queues have no holder."""
    locks = [None, None]

    def make_both():
        locks[:] = threading.Lock(), threading.Lock()

    def one():
        with locks[0]:
            sleep(1)
            with locks[1]:
                pass

    def two():
        with locks[1]:
            sleep(1)
            with locks[0]:
                pass

    def three():
        threading.Event().wait()

    def four():
        thread = threading.Thread(target=queue.Queue().get, name="getter", daemon=True)
        thread.start()
        thread.join()

    _, waits = stuck(one, two, three, four, first=make_both)
    lines = rf"\({Path(__file__).name}:\d+\)"
    assert [re.sub(lines, "(line)", wait) for wait in waits] == [
        "w0 (line) waits for the lock that w1 (line) holds",
        "w1 (line) waits for the lock that w0 (line) holds",
        "w2 waits for a condition, event or queue",
        "w3 waits for the end of getter",
        "getter waits for a condition, event or queue",
    ]


def test_worker_that_waits_for_itself_is_told_so():
    """A lock is no RLock."""

    def job():
        lock = threading.Lock()
        with lock:
            lock.acquire()

    _, waits = stuck(job)
    line = job.__code__.co_firstlineno
    name = Path(__file__).name
    assert waits == [f"w0 ({name}:{line + 3}) waits for the lock that w0 ({name}:{line + 2}) holds"]


def test_body_that_catches_every_exception_still_learns_of_a_deadlock():
    """``Stuck`` is none: a ``pytest.raises(Exception)`` in the body must not hide it."""
    with world() as new, pytest.raises(Stuck):
        with suppress(Exception):
            threading.Event().wait()
    assert new.stuck


def test_spinning_threads_starve(monkeypatch):
    """One that waits for what never comes, or several."""
    monkeypatch.setattr(scheduler, "MAX_DECISIONS", 1000)

    def spin():
        while True:
            sleep(0)

    for jobs in ([spin], [spin, spin]):
        new, _ = stuck(*jobs)
        assert new.starved == "no end after 1,000 decisions without progress"


def test_threads_that_are_left_end_with_their_world():
    """Waiting, sleeping, ready or never begun; daemons or not; and their ``finally`` blocks do no harm."""
    ended = []

    def leave():
        lock = threading.Lock()
        condition = threading.Condition()

        def wait_on():
            with condition:
                try:
                    condition.wait()
                finally:
                    ended.append("condition")
                    sleep(5)  # it may not wait any more

        def hold():
            with lock:
                try:
                    sleep(1000)
                finally:
                    ended.append("sleep")

        def queue_up():
            with lock:
                raise AssertionError

        def fail():
            try:
                sleep(1000)
            finally:
                raise ValueError

        for target in (wait_on, hold, queue_up, fail, ended.clear):
            threading.Thread(target=target).start()
        sleep(1)
        threading.Thread(target=ended.clear).start()
        threading.Thread(target=sleep, args=[0]).start()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(20):
            ended.clear()
            run_threads(leave, schedule=Schedule(kind="walk", seed=seed))
            assert ended == ["condition", "sleep"]


def test_hundreds_of_runs_leave_no_threads():
    """However they end."""
    before = threading.active_count()

    def job():
        threading.Thread(target=queue.Queue().get).start()
        with ThreadPoolExecutor(2) as pool:
            pool.submit(sleep, 1)
        threading.Timer(50, print).start()
        sleep(1)

    for _ in range(200):
        run_threads(job, job)
    deadline = 200
    while threading.active_count() > before and deadline:
        threading.Event().wait(0.01)
        deadline -= 1
    assert threading.active_count() <= before


def test_thread_that_refuses_to_end_is_given_up(monkeypatch):
    """Code that swallows everything keeps its thread; the search goes on without."""
    monkeypatch.setattr(baton, "END_TIMEOUT_SECONDS", 0.05)
    over, entered = [], threading.Event()

    def refuse():
        while not over:
            with suppress(BaseException):
                sleep(1)  # once the world is gone: a real second
            entered.set()

    with world() as new:
        thread = threading.Thread(target=refuse, name="stubborn", daemon=True)
        thread.start()
        sleep(1)
        left = new.stop()
        over.append(1)  # before the world is gone, and the sleep a real one
    assert [record.name for record in left] == ["stubborn"]
    assert entered.is_set()
    thread.join(5)
    assert not thread.is_alive()


def test_stopped_is_nobodys_result():
    """It is raised in threads that are to end, and comes out of nothing."""
    with world() as new:
        threading.Thread(target=sleep, args=[1000], daemon=True).start()
        sleep(1)
        record = new.all[1]
        new.stop()
        assert record.done
    assert issubclass(Stopped, BaseException)
    assert not issubclass(Stopped, Exception)
