"""What excludes, excludes; what wakes, wakes: locks and queues of threads, with time-outs in simulated time."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from time import monotonic, sleep  # in a world: simulated seconds, which pass at once

import pytest
from hypothesis import given, settings

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.locks import QuietLock, SimulatedLock
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from tests.unit.simulation.worlds import put_in, run_threads, schedules, workers_of, world

pytestmark = pytest.mark.usefixtures("staged", "no_threads_left")


some_schedules = settings(max_examples=30)


class Counted:
    """How many are inside at once, at most."""

    def __init__(self):
        self.inside = self.most = 0

    def visit(self):
        self.inside += 1
        self.most = max(self.most, self.inside)
        sleep(0)
        sleep(0.5)
        self.inside -= 1


@some_schedules
@given(schedules())
@pytest.mark.parametrize(
    ("name", "limit"), [("Lock", 1), ("RLock", 1), ("Condition", 1), ("BoundedSemaphore", 1), ("Semaphore", 2)]
)
def test_no_more_inside_than_allowed(name, limit, schedule):
    """Under every schedule, and all get in, in the end."""
    with world(schedule, 4) as new:
        made = getattr(threading, name)  # looked up here: a real one is none of the world's
        gate, counted, visits = made(limit) if "Semaphore" in name else made(), Counted(), []

        def job():
            for _ in range(2):
                with gate:
                    counted.visit()
                visits.append(1)

        workers_of(new, 4, simulated_loop=False)(job)
    assert counted.most <= limit
    assert len(visits) == 8


def test_without_a_lock_they_meet():
    """The check above can fail."""
    counted = Counted()
    run_threads(*[counted.visit] * 3)
    assert counted.most == 3


@some_schedules
@given(schedules())
@pytest.mark.parametrize("name", ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"])
def test_every_item_of_a_queue_comes_out_once(name, schedule):
    """No wake-up is lost between producers and consumers."""
    with world(schedule, 4) as new:
        made = getattr(queue, name)
        items, out = made() if name == "SimpleQueue" else made(schedule.seed % 3), []

        def produce():
            for number in range(3):
                items.put((WORKER.get(), number))

        def consume():
            out.extend(items.get() for _ in range(3))

        workers_of(new, 4, simulated_loop=False)(produce, consume, produce, consume)
    assert sorted(out) == [(name, number) for name in ("w0", "w2") for number in range(3)]


@some_schedules
@given(schedules())
def test_barrier_lets_all_go_when_the_last_has_come(schedule):
    """And not before."""
    with world(schedule, 3) as new:
        barrier, come = threading.Barrier(3), []

        def job():
            come.append(1)
            barrier.wait()
            return len(come)

        assert workers_of(new, 3, simulated_loop=False)(job) == [3, 3, 3]


@some_schedules
@given(schedules())
def test_condition_wakes_each_waiter_once(schedule):
    """As many as were notified, and no more."""
    with world(schedule, 4) as new:
        condition, tickets = threading.Condition(), [0]

        def wait():
            with condition:
                condition.wait_for(lambda: tickets[0])
                tickets[0] -= 1

        def give():
            for _ in range(3):
                with condition:
                    tickets[0] += 1
                    condition.notify()
                sleep(1)

        workers_of(new, 4, simulated_loop=False)(wait, wait, wait, give)
        assert tickets == [0]


@some_schedules
@given(schedules())
def test_counting_without_a_lock_is_found_out(schedule):
    """Between two switch points nobody else runs; across one, others do. So sums are right only under the lock."""
    with world(schedule, 3) as new:
        lock, total = threading.Lock(), [0, 0]

        def job():
            for _ in range(3):
                total[0] += 1  # no switch point: as good as atomic
                with lock:
                    before = total[1]
                    sleep(0)
                    total[1] = before + 1

        workers_of(new, 3, simulated_loop=False)(job)
    assert total == [9, 9]


# Time-outs are in simulated time.


def test_time_outs():
    """Every way to wait for a while waits for so many simulated seconds."""
    seen = {}

    def job():
        lock = threading.Lock()
        lock.acquire()
        rlock = threading.RLock()
        holder = threading.Thread(target=lambda: (rlock.acquire(), sleep(1000)), daemon=True)
        holder.start()
        sleep(0.5)
        ways = {
            "lock": lambda: lock.acquire(timeout=3),
            "rlock": lambda: rlock.acquire(timeout=3),
            "event": lambda: threading.Event().wait(3),
            "semaphore": lambda: threading.Semaphore(0).acquire(timeout=3),
            "condition": lambda: waited(threading.Condition()),
            "queue": lambda: got(queue.Queue()),
            "simple queue": lambda: got(queue.SimpleQueue()),
            "full queue": lambda: put(queue.Queue(1)),
            "join": lambda: holder.join(3),
            "sleep": lambda: sleep(3),
        }
        for name, way in ways.items():
            before = time.monotonic()
            assert not way(), name
            seen[name] = time.monotonic() - before
        assert holder.is_alive()

    def waited(condition):
        with condition:
            return condition.wait(3)

    def got(items):
        with suppress(queue.Empty):
            return items.get(timeout=3)

    def put(items):
        items.put(1)
        with suppress(queue.Full):
            items.put(1, timeout=3)
            return True

    run_threads(job)
    assert set(seen.values()) == {3}


def test_lock_that_is_not_to_be_had_at_once():
    """Without waiting, or with a time-out of nothing, the answer is no, and no time has passed."""

    def job():
        lock = threading.Lock()
        assert lock.acquire()
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=0)
        assert lock.locked()
        lock.release()
        assert not lock.locked()
        return time.monotonic()

    assert run_threads(job) == [0]


@pytest.mark.parametrize(("blocking", "timeout"), [(False, 1), (True, -2)])
def test_lock_refuses_what_a_real_one_refuses(blocking, timeout):
    """Inside and outside, with the same kind of error."""

    def job():
        for lock in (SimulatedLock(), REAL_LOCK):
            with pytest.raises(ValueError, match="timeout"):
                lock.acquire(blocking, timeout)
            with pytest.raises(RuntimeError, match="release unlocked lock"):
                lock.release()

    run_threads(job)
    job()


REAL_LOCK = threading.Lock()


def test_waiter_whose_time_ran_out_as_its_turn_came():
    """It may take the lock or not, but the next one is not left waiting."""

    def holder():
        with lock[0]:
            sleep(5)

    def impatient():
        if lock[0].acquire(timeout=5):
            lock[0].release()

    def patient():
        with lock[0]:
            return True

    lock = [None]
    for seed in range(20):
        results = run_threads(
            holder,
            impatient,
            patient,
            schedule=Schedule(kind="walk", seed=seed),
            first=lambda: put_in(lock, threading.Lock),
        )
        assert results[2]


def test_lock_can_be_taken_by_others_before_the_woken_one():
    """As with real ones: whoever was woken looks again, and waits on."""

    def job(number):
        def run():
            for _ in range(4):
                with lock[0]:
                    order.append(number)
                    sleep(0)

        return run

    lock, order = [None], []
    for seed in range(10):
        run_threads(
            *map(job, range(3)), schedule=Schedule(kind="walk", seed=seed), first=lambda: put_in(lock, threading.Lock)
        )
    assert len(order) == 120


def test_time_out_that_was_called_off_wakes_nobody():
    """Though it is due at the same time as another one."""

    def sleeper():
        sleep(5)
        return monotonic()

    def waiter():
        assert event[0].wait(5)
        sleep(10)
        return monotonic()

    def setter():
        sleep(1)
        event[0].set()

    event = [None]
    assert run_threads(sleeper, waiter, setter, first=lambda: put_in(event, threading.Event)) == [5, 11, None]


def test_early_timer_ends_a_wait_early():
    """A time-out may strike although the others could go on: a slow thread."""

    def wait():
        return event[0].wait(10)

    def work():
        for _ in range(30):
            sleep(0)
        event[0].set()

    event = [None]
    first = lambda: put_in(event, threading.Event)  # noqa: E731 - short
    assert run_threads(wait, work, first=first)[0]
    assert not run_threads(wait, work, first=first, schedule=Schedule(deviations=(Deviation(0, "clock", 0, 34),)))[0]


def test_lock_is_free_again_when_its_holder_was_ended():
    """The next run must not meet what the last one held."""
    lock = [None]

    def hold():
        with lock[0]:
            sleep(1000)

    def leave():
        threading.Thread(target=hold, daemon=True).start()
        sleep(1)

    run_threads(leave, first=lambda: put_in(lock, threading.Lock))
    assert repr(lock[0]) == "<SimulatedLock free>"

    def use():
        with lock[0]:
            assert repr(lock[0]) == "<SimulatedLock held by w0>"
            return True

    assert run_threads(use) == [True]


def test_the_queue_of_a_connection_pool_is_quiet():
    """urllib3 takes its lock for each of its places: no switch there matters, and it excludes all the same."""
    urllib3 = pytest.importorskip("urllib3", reason="needs urllib3")
    cookies = pytest.importorskip("http.cookiejar")

    def job():
        pool = urllib3.HTTPConnectionPool("localhost", maxsize=1, block=True)
        assert pool.pool.mutex.acquire()
        assert not pool.pool.mutex.acquire(blocking=False)
        pool.pool.mutex.release()
        jar = cookies.CookieJar()
        with jar._cookies_lock, jar._cookies_lock:
            assert jar._cookies_lock.locked()
        waiting = threading.Thread(target=lambda: pool.pool.put(None))
        pool.pool.get()
        waiting.start()
        before = new.steps
        assert pool.pool.get() is None
        waiting.join()
        assert new.steps > before  # it is waited for, in this world
        before = new.steps
        urllib3.HTTPConnectionPool("localhost", maxsize=50)
        assert new.steps == before

    with world(Schedule(), 1) as new:
        workers_of(new, 1, simulated_loop=False)(job)


def test_a_quiet_lock_excludes_threads_outside_the_world():
    """As any simulated one does, over a real lock."""
    with world(Schedule(), 1):
        lock = QuietLock()
    assert lock.acquire()
    assert not lock.acquire(blocking=False)
    lock.release()
    assert not lock.locked()


def test_a_lock_tells_who_has_taken_it():
    """Of those in the search: of one that was taken outside, nobody is known."""
    told = []

    def job():
        lock = threading.Lock()
        told.append(lock.held_by())
        with lock:
            told.append(lock.held_by())

    run_threads(job)
    assert told[0] == "nobody"
    assert told[1].startswith("w0 (test_locks.py:")
