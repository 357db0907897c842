"""``queue.SimpleQueue`` in threads of a world: its own class, waiting in simulated time."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from pytest_claude_tokens.simulation import queues
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from tests.unit.simulation.worlds import outcome_of, run_threads, stage

BEFORE: queue.SimpleQueue[int] = queue.SimpleQueue()


def test_all_of_its_methods_work_as_ever():
    """With a time-out in simulated seconds, and without waiting."""

    def job():
        box = queue.SimpleQueue()
        box.put_nowait(1)
        box.put(2)
        assert [box.get_nowait(), box.get(timeout=1)] == [1, 2]
        for take in (box.get_nowait, lambda: box.get(False), lambda: box.get(timeout=7)):
            with pytest.raises(queue.Empty):
                take()
        with pytest.raises(ValueError, match="non-negative"):
            box.get(timeout=-1)
        return time.monotonic(), box.empty(), box.qsize()

    with stage():
        assert run_threads(job) == [(7, True, 0)]
        outside = queue.SimpleQueue()
        outside.put(3)
        assert outside.get(timeout=1) == 3


def test_one_that_waits_is_woken_by_another():
    """First come, first served; nobody else is."""
    box, got = queue.SimpleQueue(), []

    def taking(name):
        got.append((name, box.get()))

    with stage():
        run_threads(lambda: box.put(0), lambda: taking("a"), lambda: taking("b"), lambda: [box.put(n) for n in (1, 2)])
    assert [name for name, _ in got] == ["a", "b"]
    assert [item for _, item in got] == [0, 1]


@pytest.mark.parametrize("generations", [True, False])
def test_queue_from_before_is_waited_for_outside(monkeypatch, generations):
    """Whoever fills it may be a thread of no world: the others go on meanwhile. Whatever the collector knows."""
    if not generations:
        monkeypatch.setattr(queues, "_HAS_GENERATIONS", False)
    filler = threading.Timer(0.2, BEFORE.put, [5])
    with stage():
        filler.start()
        assert run_threads(lambda: BEFORE.get(timeout=30), lambda: 6) == [5, 6]
    filler.join()


@pytest.mark.parametrize("filled", [0, 1])
def test_killed_one_passes_on_what_it_would_have_taken(filled):
    """A worker that dies in the queue, or when it was just woken, keeps nobody else from the item."""
    got = []

    def body(claude_tokens, workers):
        box = queue.SimpleQueue()

        def take():
            got.append(box.get(timeout=50))

        def fill():
            for _ in range(filled + 1):
                box.put(1)
            time.sleep(1)
            box.put(2)

        workers(take, take, fill)

    with stage():
        for position in range(12):
            got.clear()
            outcome = outcome_of(body, Schedule(deviations=(Deviation(position, "kill", 0, 1),)), workers=3)
            assert outcome.error is None
            assert got
