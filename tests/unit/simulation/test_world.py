"""Who lives in a world, and how one of its workers dies."""

from __future__ import annotations

import threading

import pytest

from pytest_claude_tokens.simulation import native
from pytest_claude_tokens.simulation.chooser import Chooser
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER
from pytest_claude_tokens.simulation.world import World


class Guest:
    """An event loop that only notes what its world asks of it."""

    unfinished = True

    def __init__(self, new: World) -> None:
        self.new = new
        self.noted: list[str] = []

    def drop(self, worker: int) -> None:
        free: list[bool] = []
        thread = threading.Thread(target=lambda: free.append(self.new.mutex.acquire(timeout=0.01)))
        native.REAL_START(thread)
        thread.join()
        self.noted.append(f"drop {worker}, {'alone' if free == [False] else 'beside others'}")

    def close_pending_tasks(self) -> None:
        self.noted.append("asked" if self.new.asking else "not asked")

    def disconnect(self) -> None:
        self.noted.append("disconnect")


def test_guests_are_closed_with_their_world() -> None:
    """Their tasks can wait for nothing any more, and then they are let go."""
    new = World(Chooser(DEFAULT_ORDER, 1), 1)
    guest = Guest(new)
    new.loops.append(guest)

    assert new.stop() == []
    new.release()

    assert guest.noted == ["asked", "disconnect"]
    assert not new.loops
    assert not new.all


def test_no_thread_comes_back_while_a_worker_dies() -> None:
    """One that queued up meanwhile would be in the queue, and dead."""
    new = World(Chooser(DEFAULT_ORDER, 1), 1)
    guest = Guest(new)
    new.loops.append(guest)

    new.drop(0)

    assert guest.noted == ["drop 0, alone"]
    new.stop()


def test_world_makes_loops_as_it_was_told_at_its_making() -> None:
    """And none where nothing was said, or when all is over."""
    made: list[World] = []

    def new_loop(new: World) -> object:
        made.append(new)
        return "a loop"

    new = World(Chooser(DEFAULT_ORDER, 1), 1, new_loop=new_loop)  # type: ignore[arg-type]
    assert new.new_loop() == "a loop"  # type: ignore[comparison-overlap]
    assert made == [new]

    new.stop()
    new.release()
    for world in (new, World(Chooser(DEFAULT_ORDER, 1), 1)):
        with pytest.raises(RuntimeError, match=r"^this world makes no event loops$"):
            world.new_loop()


def test_a_handle_may_be_added_while_the_queue_is_looked_through() -> None:
    """By a thread that is outside, and waits for nobody: it wakes a loop, say."""
    new = World(Chooser(DEFAULT_ORDER, 1), 1)

    def kind(_item: object) -> type:  # `isinstance` asks for it
        new.ready.append(object())
        return object

    new.ready.append(type("Intruder", (), {"__class__": property(kind)})())
    assert new._threads() == []
    assert len(new.ready) == 2
    new.ready.clear()
    new.stop()
