"""Threads that the world doesn't know, on the locks of those that it knows."""

from __future__ import annotations

import threading
from time import sleep  # in a world: simulated seconds, which pass at once

import pytest

from pytest_claude_tokens.simulation.locks import SimulatedLock
from tests.unit.simulation.worlds import run_threads, world

pytestmark = pytest.mark.usefixtures("staged", "no_threads_left")


def test_lock_excludes_threads_from_elsewhere():
    """One that the world doesn't know waits really, and is waited for."""
    with world() as new:
        lock = threading.Lock()
    order = []
    with lock:
        outsider = threading.Thread(
            target=lambda: (lock.acquire(), order.append("outsider"), held.set(), let_go.wait(5), lock.release())
        )
        held, let_go = threading.Event(), threading.Event()
        outsider.start()
        assert not lock.acquire(blocking=False)
        order.append("us")
    held.wait(5)
    assert not lock.acquire(timeout=0.01)

    def inside():
        assert not lock.acquire(timeout=0.01)
        let_go.set()
        with lock:
            order.append("inside")

    run_threads(inside)
    outsider.join()
    assert order == ["us", "outsider", "inside"]
    assert new.stopping


def test_release_from_elsewhere_wakes_a_waiter():
    """A thread that the world doesn't know may release what a worker holds."""
    go, lock = threading.Event(), [None]
    real = threading.Thread(target=lambda: (go.wait(5), lock[0].release()))
    real.start()
    with world() as new:
        lock[0] = threading.Lock()
        lock[0].acquire()
        waiter = threading.Thread(target=lock[0].acquire, daemon=True)
        waiter.start()
        sleep(0)
        go.set()
        real.join()
        waiter.join()
        assert new.now == 0


def test_forked_child_finds_locks_free():
    """As with real ones."""
    lock = SimulatedLock()
    lock.acquire()
    lock._at_fork_reinit()
    assert not lock.locked()
    lock._leave(None)  # nobody is there to be woken
