"""What blocks where the simulation can't see it is noticed, and nothing ever hangs."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from time import (
    sleep,  # in a world: simulated seconds, which pass at once
    thread_time,  # is real everywhere
)

import pytest

from pytest_claude_tokens.runs import watchdog
from pytest_claude_tokens.runs.watchdog import Interrupted, Watchdog, where
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER
from pytest_claude_tokens.simulation.thread_record import Stopped, Stuck, ThreadRecord, ThreadState
from pytest_claude_tokens.simulation.threads import _undisturbed
from tests.unit.simulation.worlds import outcome_of, run_tasks, run_threads, stage, workers_of, world

pytestmark = pytest.mark.usefixtures("staged")


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    """A fifth of a second instead of five."""
    monkeypatch.setattr(watchdog, "STUCK_TIMEOUT_SECONDS", 0.2)


@pytest.fixture
def pipe():
    """Both ends; a read from it blocks where nobody sees it."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def test_others_go_on_while_one_is_blocked_outside(pipe):
    """And it queues up again when it comes back."""
    reader, writer = pipe
    order = []

    def blocked():
        order.append(os.read(reader, 1))
        sleep(0)
        order.append("back")

    def other():
        sleep(1)
        order.append("other")
        os.write(writer, b"x")
        sleep(5)
        order.append("end")

    run_threads(blocked, other)
    assert order[0] == "other"
    assert set(order) == {"other", b"x", "back", "end"}


def test_module_that_is_read_slowly_keeps_the_turn(tmp_path):
    """Nobody but the disk can end that: a run must not be another one because a disk was busy."""
    slow = tmp_path / "slow.py"
    os.mkfifo(slow)
    order = []

    def imports():
        spec = importlib.util.spec_from_file_location("slow", slow)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        order.append("imported")

    with subprocess.Popen(["sh", "-c", 'sleep 0.15; echo "x = 1" > "$1"', "sh", str(slow)]):
        run_threads(imports, lambda: order.append("other"))
    assert order == ["imported", "other"]


def test_real_lock_between_workers_is_no_deadlock():
    """One that is kept where nobody finds it: in a closure."""

    def job():
        with box[0]:
            sleep(1)
        return True

    box = [LOCKS.pop()]
    assert run_threads(job, job, job) == [True] * 3


LOCKS = [threading.Lock()]


def test_thread_that_never_comes_back_is_unknown(pipe):
    """With its stack, within the patience."""
    reader, _ = pipe

    def body(claude_tokens, workers):
        workers(lambda: os.read(reader, 1))

    outcome = outcome_of(body)
    os.write(pipe[1], b"xx")
    assert type(outcome.error).__name__ == "Unknown"
    assert "w0 is stuck" in str(outcome.error)
    assert "test_watchdog.py:" in str(outcome.error)


def test_body_that_is_stuck_itself_is_interrupted(pipe):
    """In the main thread, by a signal; on a loop and without one."""
    reader, _ = pipe

    def threads(claude_tokens, workers):
        os.read(reader, 1)

    async def tasks(claude_tokens, workers):
        await workers(read)

    async def read():
        os.read(reader, 1)

    for body in (threads, tasks):
        outcome = outcome_of(body)
        assert type(outcome.error).__name__ == "Unknown"
        assert "main is stuck" in str(outcome.error)


def test_body_in_another_thread_can_not_be_interrupted(pipe):
    """Signals are for the main thread: it is waited for, as without us."""
    reader, writer = pipe
    results = []

    def search():
        with stage():
            results.append(run_threads(lambda: os.read(reader, 1)))
            with world():
                results.append(os.read(reader, 1))

    thread = threading.Thread(target=search)
    thread.start()
    os.write(writer, b"x")
    threading.Event().wait(0.6)
    os.write(writer, b"y")
    thread.join()
    assert results == [[b"x"], b"y"]


def test_signal_that_comes_late_is_ignored():
    """The body has come back meanwhile: nothing is raised in whatever runs then."""
    signal.raise_signal(signal.SIGURG)
    with world() as new:
        signal.raise_signal(signal.SIGURG)
        new.stuck = True
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGURG)


def test_one_that_computes_is_not_blocked():
    """It takes its time, and nobody else is let in meanwhile."""
    seen = []

    def busy():
        until = thread_time() + 0.2
        while thread_time() < until:
            sum(range(1000))
        seen.append("busy")

    run_threads(busy, lambda: seen.append("other"))
    assert seen == ["busy", "other"]


def test_loop_that_is_blocked_lets_its_threads_go_on(pipe):
    """A task that reads from a pipe which a job of an executor fills."""
    import asyncio

    reader, writer = pipe

    def fill():
        sleep(1)
        os.write(writer, b"x")

    async def body():
        job = asyncio.create_task(asyncio.to_thread(fill))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        value = os.read(reader, 1)
        await job
        return value

    assert run_tasks(body) == b"x"


def test_deadlock_of_those_inside_waits_for_those_outside(pipe):
    """While somebody may still come back nobody is called deadlocked."""
    reader, writer = pipe

    def blocked():
        os.read(reader, 1)
        event[0].set()

    def waiter():
        return event[0].wait()

    event = [None]
    feeder = threading.Timer(0.1, os.write, [writer, b"x"])
    feeder.start()
    assert run_threads(blocked, waiter, first=lambda: event.__setitem__(0, threading.Event()))[1]
    feeder.join()


def test_worker_that_died_outside_stays_dead(pipe):
    """It comes back to find that it was killed: it says no more."""
    reader, writer = pipe
    seen = []

    def victim():
        os.read(reader, 1)
        sleep(0)
        seen.append("alive")

    def killer():
        sleep(1)
        workers[0].end_worker("kill", 0)
        os.write(writer, b"x")
        for _ in range(20):
            REAL_WAIT.wait(0.01)
            sleep(1)

    workers = []
    with world(DEFAULT_ORDER, 2) as new:
        workers.append(workers_of(new, 2, simulated_loop=False))
        workers[0](victim, killer)
        assert not new.outsiders()
    assert seen == []


REAL_WAIT = threading.Event()


def test_dead_one_that_comes_back_last_leaves_a_deadlock(pipe):
    """Nobody else could ever run: the root must learn of it."""
    reader, writer = pipe

    def victim():
        os.read(reader, 1)
        sleep(0)

    def other():
        sleep(1)
        os.read(other_pipe[0], 1)
        threading.Event().wait()

    other_pipe = os.pipe()
    with world(DEFAULT_ORDER, 2) as new:
        workers = workers_of(new, 2, simulated_loop=False)

        def strike():
            new.drop(0)
            os.write(writer, b"x")
            os.write(other_pipe[1], b"x")

        timer = threading.Timer(0.12, strike)
        start_really(timer)
        with pytest.raises(Stuck):
            workers(victim, other)
    timer.join()
    for end in other_pipe:
        os.close(end)


def start_really(thread):
    """Outside the world."""
    before, ACTIVE.world = ACTIVE.world, None
    thread.start()
    ACTIVE.world = before


def test_one_that_comes_back_when_all_is_over_ends(pipe):
    """The world has gone on without it: it is not waited for, and ends at its first switch point."""
    reader, writer = pipe
    seen = []

    def left():
        os.read(reader, 1)
        seen.append("back")
        sleep(0)

    with world() as new:
        thread = threading.Thread(target=left, name="left", daemon=True)
        thread.start()
        sleep(1)
        ended = new.stop()
    assert [record.name for record in ended] == ["left"]
    os.write(writer, b"x")
    thread.join(5)
    assert not thread.is_alive()
    assert seen == ["back"]


def test_return_to_a_world_that_is_stopping():
    """It raises ``Stopped``, and the root is not woken twice."""
    with world() as new:
        record = new.register("late", -1)
        record.state = ThreadState.OUTSIDE
        record.inside = False
        new.stopping = True
        with pytest.raises(Stopped):
            new.pause(record)
        new.finish(record)
        assert record.done
        assert not new.root.run_lock.acquire(blocking=False)


def test_ways_back():
    """To the baton that nobody holds, to the end of the queue, or to nothing, as it has died meanwhile."""
    with world() as new:
        other, back = new.register("other", -1), new.register("back", -1)
        other.state = ThreadState.READY
        for returning in (back, new.root):
            new.holder = other
            returning.state = ThreadState.OUTSIDE
            returning.run_lock.release()  # as if its turn had come at once
            new._return(returning)
            assert new.ready.pop() is returning
        new.root.run()
        new.holder, back.state = other, ThreadState.LOST
        back.run_lock.release()
        with pytest.raises(Stopped):
            new._return(back)
        assert not new.ready
        new.holder, back.state = None, ThreadState.LOST
        back.run_lock.release()
        with pytest.raises(Stopped):
            new._return(back)
        assert new.stuck
        assert new.root.run_lock.acquire(blocking=False)
        new.stuck = False
        new.ready.append(other)  # it came back just as nobody was found
        assert new._leave_idle()
        assert new.holder is other
        new.holder = new.root
        other.end()
        back.end()


def test_machinery_is_not_disturbed_by_the_watchdog():
    """Nor marked as done with when it was inside already; other threads are none of its business."""
    with world() as new:
        with _undisturbed(new):
            assert new.root.inside
            with _undisturbed(new):
                pass
            assert new.root.inside
        assert not new.root.inside


def test_rescue_leaves_alone_who_is_at_a_switch_point():
    """Who holds the baton no more, or is in the machinery, or has come there at that very moment."""
    with world() as new:
        other = new.register("other", -1)
        new.rescue(other)
        assert not other.outside
        other.state = ThreadState.DONE
        new.root.inside = True
        new.rescue(new.root)
        assert not new.root.outside

        class Late(ThreadRecord):
            """Comes to a switch point when the watchdog has named it as its suspect, and not before."""

            __slots__ = ()

            @property
            def inside(self):
                return new.suspect is self

            @inside.setter
            def inside(self, value):
                pass

        late = Late("late", -1, 0)
        late.state = ThreadState.RUNNING
        new.holder = late
        new.rescue(late)
        assert late.state is ThreadState.RUNNING
        assert new.suspect is None
        new._return(late)  # it had seen that it was under suspicion, and is no more
        assert late.state is ThreadState.RUNNING
        new.holder = new.root
        new.root.inside = False


def test_giving_up():
    """The root goes on where nobody else does; where it is what is stuck, only a signal helps."""
    with world() as new:
        assert not new.give_up([])
        new.root.state = ThreadState.OUTSIDE
        new.holder = None
        assert not new.give_up([])
        new.root.state = ThreadState.WAITING
        new.stopping = True
        assert new.give_up([])
        assert not new.stuck
        new.stopping = False
        assert new.give_up([("w0", "somewhere")])
        assert new.stuck
        assert new.stuck_at == [("w0", "somewhere")]
        assert new.root.state is ThreadState.RUNNING
        assert new.root.run_lock.acquire(blocking=False)
        new.stuck = False


def test_place_of_a_thread_is_told_in_its_own_code():
    """Our own frames are left out; a thread that has gone is nowhere."""
    record = ThreadRecord("x", -1, 0)
    assert where(record) == "an unknown place"
    record.bind()
    assert "in test_place_of_a_thread_is_told_in_its_own_code" in where(record)


def test_watchdog_leaves_the_signal_as_it_was():
    """For the process, and for the next."""
    before = signal.signal(signal.SIGURG, signal.SIG_IGN)
    with Watchdog() as dog:
        assert signal.getsignal(signal.SIGURG) == dog._raise
    assert signal.signal(signal.SIGURG, before) is signal.SIG_IGN


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_thread_that_waits_for_a_processor_is_not_blocked():
    """It wants to run; others keep it from it."""
    record = ThreadRecord("x", -1, 0)
    assert not watchdog.wants_to_run(None)
    assert not watchdog.wants_to_run(record)
    assert watchdog._cpu_seconds(None) == watchdog._cpu_seconds(record) == 0.0
    record.bind()
    assert watchdog.wants_to_run(record)
    assert watchdog._cpu_seconds(record) > 0
