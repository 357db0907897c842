"""Threads under the baton: everything of ``threading`` and ``queue`` in simulated time, under any schedule."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures import wait as wait_for_all
from contextlib import suppress
from time import monotonic, sleep  # in a world: simulated seconds, which pass at once

import pytest
from hypothesis import given, settings

from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation import baton, scheduler
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.locks import SimulatedLock
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck, WouldWait
from tests.unit.simulation.worlds import crew_of, run_threads, schedules, world

pytestmark = pytest.mark.usefixtures("staged")

some_schedules = settings(max_examples=30)


@pytest.fixture(autouse=True)
def no_threads_left():
    """Whatever a test does, its threads end with it."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


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


# What excludes, excludes; what wakes, wakes.


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

        crew_of(new, 4, simulated_loop=False)(job)
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

        crew_of(new, 4, simulated_loop=False)(produce, consume, produce, consume)
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

        assert crew_of(new, 3, simulated_loop=False)(job) == [3, 3, 3]


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

        crew_of(new, 4, simulated_loop=False)(wait, wait, wait, give)
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

        crew_of(new, 3, simulated_loop=False)(job)
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


def put_in(box, factory):
    box[0] = factory()


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


# Threads of threads.


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


# Deadlocks, starvation, the end.


def stuck(*jobs, first=None):
    """The world in which these jobs get stuck."""
    with world(DEFAULT_ORDER, len(jobs)) as new:
        if first is not None:
            first()
        with pytest.raises(Stuck):
            crew_of(new, len(jobs), simulated_loop=False)(*jobs)
        return new, new.waits()


def test_deadlock_is_told_by_who_waits_for_whom():
    """Each by its name, with the holder's; conditions, events and queues have no holder."""
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
    assert waits == [
        "w0 waits for a lock that w1 holds",
        "w1 waits for a lock that w0 holds",
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
    assert waits == ["w0 waits for a lock that w0 holds"]


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
        assert new.starved == "no end after 1,000 decisions"


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


# Workers that die.


def killing(number, *jobs, at=1.5, first=None):
    """Run the jobs, and kill one when so many seconds have passed."""
    with world(DEFAULT_ORDER, len(jobs) + 1) as new:
        if first is not None:
            first()
        crew = crew_of(new, len(jobs) + 1, simulated_loop=False)

        def kill():
            sleep(at)
            crew.strike("kill", number)

        return crew(*jobs, kill)


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
        crew[0].strike("kill", 1)

    def waiter():
        sleep(0.1)
        with lock[0]:
            had.append(WORKER.get())

    lock, crew = [None], []
    with world(Schedule(deviations=(Deviation(0, "alone", 0, 34),)), 3) as new:
        lock[0] = threading.Lock()
        crew.append(crew_of(new, 3, simulated_loop=False))
        crew[0](holder, waiter, waiter)
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
        with pytest.raises(WouldWait, match="waits for a lock that main holds"):
            new.ask(look)
        with pytest.raises(WouldWait, match="waits for time"):
            new.ask(lambda: sleep(1))
        assert not new.asking


# Threads from elsewhere.


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


def test_worlds_may_be_nested():
    """A body may run another search: the outer world goes on where it was."""

    def job():
        sleep(1)
        inner = run_threads(lambda: (sleep(5), time.monotonic())[1])
        sleep(1)
        return inner, time.monotonic()

    assert run_threads(job, job) == [([5], 2), ([5], 2)]


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
