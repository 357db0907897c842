"""A finalizer that takes a lock in the middle of a switch point, whenever the garbage collector runs it."""

from __future__ import annotations

import threading
import time

import pytest

from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
from pytest_claude_tokens.simulation.thread_record import WouldWait
from pytest_claude_tokens.simulation.world import World
from tests.unit.simulation.worlds import workers_of, world

pytestmark = pytest.mark.usefixtures("staged", "no_threads_left")


def during_each_decision(new: World, call) -> None:
    """Call ``call`` where a thread is inside a switch point, and about to choose who goes on."""
    decide = new.decide

    def deciding():
        call()
        return decide()

    new.decide = deciding


@pytest.mark.parametrize("schedule", [DEFAULT_ORDER, Schedule(deviations=(Deviation(0, "freeze", 0, 8),))])
def test_a_lock_that_is_free_is_taken_without_a_switch(schedule):
    """All threads end, each job is done once, and the lock is free again."""
    done = []
    with world(schedule, 3) as new:
        lock = threading.Lock()

        def finalizer():
            with lock:
                pass

        def job():
            time.sleep(0.5)
            done.append(threading.current_thread().name)

        workers = workers_of(new, 3, simulated_loop=False)
        during_each_decision(new, finalizer)
        workers(job)
        assert not lock.locked()
    assert sorted(done) == ["w0", "w1", "w2"]


def test_a_lock_that_is_taken_can_not_be_waited_for():
    """The finalizer gets an exception of its own, and the threads go on."""
    refused = []
    with world(DEFAULT_ORDER, 2) as new:
        lock = threading.Lock()

        def finalizer():
            if lock.locked():
                try:
                    lock.acquire()
                except WouldWait as error:
                    refused.append(str(error))

        def job():
            with lock:
                time.sleep(0.5)

        workers = workers_of(new, 2, simulated_loop=False)
        during_each_decision(new, finalizer)
        workers(job)
        assert not lock.locked()
    line = refused[0].rpartition(" (")[2]
    assert {f"a finalizer waits for the lock that {name} ({line}" for name in ("w0", "w1")} == set(refused)
    assert line.startswith("test_nested_switch_points.py:")
    assert line.endswith(") holds")
