"""Locks from before the world are simulated while bodies run, wherever a module keeps them."""

from __future__ import annotations

import sys
import threading
import types
from dataclasses import dataclass, field
from time import sleep  # in a world: simulated seconds, which pass at once

import pytest

from pytest_claude_tokens.simulation.locks import SimulatedLock, SimulatedRLock
from pytest_claude_tokens.simulation.preexisting_locks import preexisting_locks
from tests.unit.simulation.worlds import run_threads, stage

LOCK = threading.Lock()
RLOCK = threading.RLock()
SAME = LOCK
OTHER = 1


class Keeper:
    """A dispatcher with a lock for all of its kind, and one of its own."""

    shared = threading.Lock()

    def __init__(self):
        self.own = threading.RLock()
        self.number = 3


@dataclass(frozen=True)
class Frozen:
    """One whose attributes can't be set."""

    own: object = field(default_factory=threading.Lock)


class Slotted:
    """One without a dictionary."""

    __slots__ = ("own",)


KEEPER = Keeper()
FROZEN = Frozen()
SLOTTED = Slotted()


def everything():
    return [LOCK, SAME, RLOCK, Keeper.shared, KEEPER.own, FROZEN.own]


def test_locks_of_globals_classes_and_objects_are_simulated_and_put_back():
    """Several names for one lock stay that."""
    before = everything()
    with preexisting_locks(()):
        inside = everything()
        assert inside[0] is inside[1]
        assert [type(each) for each in inside] == [
            SimulatedLock, SimulatedLock, SimulatedRLock, SimulatedLock, SimulatedRLock, SimulatedLock,
        ]  # fmt: skip
    assert all(a is b for a, b in zip(before, everything(), strict=True))


def test_name_that_was_bound_anew_inside_is_left_alone(monkeypatch):
    """The code under test has put something else there."""
    mine = object()
    monkeypatch.setitem(globals(), "LOCK", LOCK)  # to be put back
    with preexisting_locks(()):
        globals()["LOCK"] = mine
    assert LOCK is mine


def test_nothing_of_what_is_installed_or_spared(monkeypatch):
    """Theirs guard what is done once in a process. An object without a dictionary among the modules doesn't matter."""
    lock = threading.Lock()
    for name, path in {"installed_one": "/x/site-packages/installed_one.py", "spared_one": "/x/spared_one.py"}.items():
        module = types.ModuleType(name)
        module.__file__ = path
        module.lock = lock
        module.Keeper = type("Keeper", (), {"shared": lock, "__module__": name})
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "odd_one", Slotted())
    monkeypatch.setitem(sys.modules, "absent_one", None)
    installed, spared = sys.modules["installed_one"], sys.modules["spared_one"]
    with preexisting_locks(["spared_one"]):
        assert installed.lock is lock
        assert installed.Keeper.shared is lock
        assert spared.lock is lock
        assert spared.Keeper.shared is lock


def test_locks_of_the_standard_library_are_real():
    """Its start-up handshakes and its imports rely on them."""
    with preexisting_locks(()):
        assert not isinstance(threading._active_limbo_lock, SimulatedLock)


def holder():
    with LOCK, RLOCK, RLOCK:
        sleep(5)
        return True


def test_they_wait_in_simulated_time():
    """No run takes real time for it, and all see the same order."""
    orders = []
    for _ in range(5):
        order = []

        def job(order=order):
            holder()
            order.append(threading.current_thread().name)

        with stage():
            run_threads(job, job, job)
        orders.append(order)
    assert orders == [["w0", "w1", "w2"]] * 5


def test_whoever_has_the_real_one_is_excluded():
    """A name that we don't find still means the same lock."""
    real, again = LOCK, RLOCK
    real.acquire()
    with stage():
        assert LOCK is not real
        assert LOCK.locked()
        assert not LOCK.acquire(timeout=0)
        real.release()
        with LOCK:
            assert not real.acquire(blocking=False)
        with again:
            assert RLOCK.locked()
            assert RLOCK._is_owned()
        assert not RLOCK.locked()
        with RLOCK:
            taken = []
            thread = threading.Thread(target=lambda: taken.extend([RLOCK.locked(), again.acquire(blocking=False)]))
            thread.start()
            thread.join()
            assert taken == [True, False]
        with RLOCK, RLOCK:
            assert RLOCK._recursion_count() == 2
        with pytest.raises(RuntimeError, match="un-acquired"):
            RLOCK.release()


def test_condition_gives_back_a_lock_that_was_taken_twice():
    """While it waits the lock is free; after that it is held as often as before."""

    def waiter():
        lock = condition[0]._lock
        with condition[0], condition[0]:
            condition[0].wait()
            assert lock._is_owned()
        assert not lock._is_owned()
        return "woken"

    def waker():
        sleep(1)
        with condition[0]:
            condition[0].notify()

    condition = [None]
    with stage():
        results = run_threads(waiter, waker, first=lambda: condition.__setitem__(0, threading.Condition()))
    assert results[0] == "woken"
