"""A thread that was blocked out of sight comes back at the very moment in which nobody else can run."""

from __future__ import annotations

import threading

import pytest

from pytest_claude_tokens.simulation import threads
from pytest_claude_tokens.simulation.chooser import Chooser
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER
from pytest_claude_tokens.simulation.thread_record import Stuck, ThreadState
from pytest_claude_tokens.simulation.world import World


def test_run_goes_on_with_a_thread_that_comes_back_just_when_nobody_was_found(monkeypatch):
    """It is no deadlock: the thread was outside when the search for somebody began, and is in the queue at its end."""
    world = World(Chooser(DEFAULT_ORDER, 1), 1)
    late = world.register("w0", 0)
    late.state = ThreadState.OUTSIDE
    decide = world.decide

    def decide_too_soon():
        found = decide()
        if late.outside:  # what `_return` does, while somebody else has the baton
            late.queue()
            world.ready.append(late)
        return found

    def come_back():
        late.run_lock.acquire()
        world.wake(world.root)
        world._deliver(world.decide())

    monkeypatch.setattr(world, "decide", decide_too_soon)
    thread = threading.Thread(target=come_back)
    thread.start()
    try:
        assert world.block(world.root, "a test")
    finally:
        late.run_lock.release() if not world.handovers else None
        thread.join()


def test_run_in_which_nobody_is_left_is_over():
    """With nobody ready, and nobody outside, it is a deadlock."""
    world = World(Chooser(DEFAULT_ORDER, 1), 1)
    with pytest.raises(Stuck):
        world.block(world.root, "a test")


def test_thread_that_waits_for_the_start_of_another_is_not_taken_for_stuck(monkeypatch):
    """On a busy machine that takes longer than the watchdog's patience; nobody else may go on meanwhile."""
    world = World(Chooser(DEFAULT_ORDER, 1), 1)
    start = threads.REAL_START
    taken = []

    def slow_start(thread):
        world.rescue(world.root)
        taken.append(world.root.outside)
        start(thread)

    monkeypatch.setattr(threads, "REAL_START", slow_start)
    threads.bind_thread(world, threading.Thread(target=int), "w0", "w0")
    assert world.stop() == []
    assert taken == [False]
