"""Threads whose worker is killed: they never run again, and take nobody's turn."""

from __future__ import annotations

import threading
import time
from time import sleep  # in a world: simulated seconds, which pass at once

import pytest

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
from tests.unit.simulation.worlds import put_in, workers_of, world

pytestmark = pytest.mark.usefixtures("staged", "no_threads_left")


def killing(number, *jobs, at=1.5, first=None):
    """Run the jobs, and kill one when so many seconds have passed."""
    with world(DEFAULT_ORDER, len(jobs) + 1) as new:
        if first is not None:
            first()
        workers = workers_of(new, len(jobs) + 1, simulated_loop=False)

        def kill():
            sleep(at)
            workers.end_worker("kill", number)

        return workers(*jobs, kill)


def test_killed_worker_never_runs_again_nor_lets_go():
    """Not even its ``finally`` blocks, before the end."""
    seen = []

    def victim():
        with lock[0]:
            try:
                sleep(2)
            finally:
                seen.append(("finally", ACTIVE.world.stopping))

    def other():
        sleep(1)
        assert not lock[0].acquire(timeout=10)
        seen.append("other")

    lock = [None]
    assert killing(0, victim, other, first=lambda: put_in(lock, threading.Lock)) == [None, None, None]
    assert seen == ["other", ("finally", True)]


def test_killed_waiter_does_not_take_the_turn_of_the_next():
    """Neither while it waits, nor when its turn has just come."""
    for at in (1.5, 2):
        lock = [None]

        def holder(lock=lock):
            with lock[0]:
                sleep(2)

        def victim(lock=lock):
            sleep(0.1)
            with lock[0]:
                sleep(0)

        def other(lock=lock):
            sleep(1)
            with lock[0]:
                return "had it"

        def prepare(lock=lock):
            lock[0] = threading.Lock()

        assert killing(1, holder, victim, other, at=at, first=prepare)[2] == "had it"


def test_waiter_that_dies_when_its_turn_has_come_passes_it_on():
    """At the very decision at which it would have gone on."""
    had = []

    def holder():
        with lock[0]:
            sleep(2)
        workers[0].end_worker("kill", 1)

    def waiter():
        sleep(0.1)
        with lock[0]:
            had.append(WORKER.get())

    lock, workers = [None], []
    with world(Schedule(deviations=(Deviation(0, "alone", 0, 34),)), 3) as new:
        lock[0] = threading.Lock()
        workers.append(workers_of(new, 3, simulated_loop=False))
        workers[0](holder, waiter, waiter)
    assert had == ["w2"]


def test_threads_of_a_killed_worker_die_with_it():
    """They are its own; one that was not begun never begins."""
    ticks = []

    def victim():
        threading.Thread(target=tick).start()
        sleep(100)

    def tick():
        while True:
            sleep(1)
            ticks.append(time.monotonic())

    killing(0, victim, lambda: sleep(10), at=3.5)
    assert ticks == [1, 2, 3]
