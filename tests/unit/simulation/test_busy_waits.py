"""Who waits by looking again and again: time passes for him, others get their turn, and it has an end."""

from __future__ import annotations

import asyncio
import datetime as dt
import multiprocessing
import queue
import subprocess
import threading
import time
from contextlib import suppress

import pytest

from pytest_claude_tokens.simulation import scheduler
from pytest_claude_tokens.simulation.chooser import Chooser
from pytest_claude_tokens.simulation.looks import looking
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule
from tests.unit.simulation.worlds import outcome_of, put_in, run_tasks, run_threads, workers_of, world

pytestmark = pytest.mark.usefixtures("staged")

BUSY_SECONDS = 50.0
"""Simulated seconds for which somebody is busy, and is looked at."""
SCHEDULES = [
    DEFAULT_ORDER,
    Schedule(deviations=(Deviation(0, "alone", 1, 99_999),)),
    Schedule(deviations=(Deviation(0, "freeze", 0, 99_999),)),
    *(Schedule(kind=kind, seed=seed) for kind in ("pct", "walk") for seed in range(4)),
]


class Flag:
    """Raised for a while by one worker; the other looks at it in a way of its own, and counts its looks."""

    def __init__(self):
        self.lock, self.queue, self.busy, self.looks = threading.Lock(), queue.Queue(), True, 0

    def hold(self):
        with self.lock:
            time.sleep(BUSY_SECONDS)
            self.busy = False
        self.queue.put("free")

    def look(self, way):
        while not way(self):
            self.looks += 1
        return time.monotonic()


def _yields(flag):
    time.sleep(0)
    return not flag.busy


def _sleeps(flag):
    time.sleep(1e-6)
    return not flag.busy


def _tries(flag, timeout=None):
    if not (flag.lock.acquire(blocking=False) if timeout is None else flag.lock.acquire(timeout=timeout)):
        return False
    free = not flag.busy  # else it was the first to take the lock
    flag.lock.release()
    return free


def _tries_for_a_moment(flag):
    return _tries(flag, 1e-6)


def _gets(flag):
    try:
        return flag.queue.get_nowait()
    except queue.Empty:
        return None


def _reads(flag):
    return not flag.busy or time.time() - scheduler.EPOCH > BUSY_SECONDS + 5


def _reads_dates(flag):
    return not flag.busy or dt.datetime.now().timestamp() - scheduler.EPOCH > BUSY_SECONDS + 5


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: f"{schedule.kind}-{schedule.seed}")
@pytest.mark.parametrize("way", [_yields, _sleeps, _tries, _tries_for_a_moment, _gets, _reads, _reads_dates])
def test_a_thread_that_looks_sees_the_end(way, schedule):
    """At the right time, within some thousand looks, under whatever schedule."""
    box = [None]
    jobs = (lambda: Flag.hold(box[0]), lambda: Flag.look(box[0], way))
    _, ended = run_threads(*jobs, schedule=schedule, first=lambda: put_in(box, Flag))
    # Who is suspended while the other sleeps stays so for all the time there is.
    suspended = way in (_sleeps, _tries_for_a_moment) and any(one.what == "freeze" for one in schedule.deviations)
    assert BUSY_SECONDS <= ended < BUSY_SECONDS + 6 + suspended * scheduler.SLOW_SECONDS
    assert box[0].looks < 200_000


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: f"{schedule.kind}-{schedule.seed}")
@pytest.mark.parametrize("pause", [0, 1e-6, 0.001])
def test_a_task_that_looks_sees_the_end(pause, schedule):
    looks = []

    async def body():
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(BUSY_SECONDS, done.set_result, None)
        while not done.done():
            looks.append(1)
            await asyncio.sleep(pause)
        return asyncio.get_running_loop().time()

    assert BUSY_SECONDS <= run_tasks(body, schedule) < BUSY_SECONDS + 0.2
    assert len(looks) < 5000


def test_a_task_that_never_yields_sees_the_clock_move():
    async def body():
        end = time.monotonic() + 3
        while time.monotonic() < end:
            pass
        return time.monotonic()

    assert 3 <= run_tasks(body) < 3.1


def test_a_sleep_that_is_no_look_takes_no_longer():
    """One of a second, however long nothing else has happened."""

    def sleeps():
        return [time.sleep(1) for _ in range(1000)] and time.monotonic()

    assert run_threads(sleeps, lambda: None) == [1000, None]


def test_progress_makes_time_stand_still_again():
    """Looks between two events take no time, however many there are in all."""

    async def body():
        for _ in range(10):
            for _ in range(scheduler.PATIENCE - 50):
                await asyncio.sleep(0)
            await asyncio.get_running_loop().create_task(asyncio.sleep(0))
        return asyncio.get_running_loop().time()

    assert run_tasks(body) == 0


def test_a_run_that_goes_on_and_on_has_an_end_too(monkeypatch):
    """Also where something happens all the time."""
    monkeypatch.setattr(scheduler, "MAX_DECISIONS", 1000)

    async def body(claude_tokens, workers):
        async def job():
            while True:
                await asyncio.create_task(asyncio.sleep(0))

        await workers(job)

    outcome = outcome_of(body)
    assert type(outcome.error).__name__ == "Starvation"
    assert outcome.error.cause.endswith(": no end after 2,000 decisions")


def test_the_lines_of_those_who_look_are_told(monkeypatch):
    """The author's own line, not that of the queue."""
    monkeypatch.setattr(scheduler, "MAX_DECISIONS", 1000)

    def body(claude_tokens, workers):
        empty = queue.Queue()

        def looks():
            while True:
                with suppress(queue.Empty):
                    empty.get_nowait()

        workers(looks, lambda: None)

    error = outcome_of(body).error
    assert str(error).startswith("w0 is at test_busy_waits.py:")
    assert error.cause.endswith(" in looks: no end after 1,000 decisions without progress")


def test_options_are_numbered_by_decision_where_none_were_possible():
    """A systematic search goes on from the option's own decision."""

    async def body():
        async def spin():
            for _ in range(scheduler.PATIENCE):
                await asyncio.sleep(0)

        await asyncio.gather(spin(), spin())
        await asyncio.create_task(asyncio.sleep(0))
        await asyncio.gather(spin(), spin())

    with world(record=True) as new:
        from pytest_claude_tokens.simulation.loop import SimulatedLoop

        loop = SimulatedLoop(new)
        loop.run(body())
        options = list(new.chooser.options)
        loop.shut()
    assert len(options) <= new.chooser.decision
    assert () in options
    assert options[-1]


def test_a_long_replay_costs_what_its_run_cost():
    """Each fact is looked at when its time has come. Twice as many for the square of the time would never end."""
    facts = 30_000
    chooser = Chooser(Schedule(deviations=tuple(Deviation(n, "alone", n % 3, 2) for n in range(facts))), 3)
    chosen = [chooser.next((0, 1, 2), False, int) for _ in range(facts)]
    assert chosen == [0, *((n - 1) % 3 for n in range(1, facts))]


# Processes are real, and so is the time that they take.


def test_the_time_out_of_a_command_comes():
    """Simulated time stands still meanwhile."""
    seen = []

    def job():
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["/bin/sleep", "5"], timeout=0.05, check=True, capture_output=True)
        process = subprocess.Popen(["/bin/sleep", "0.05"])
        seen.append(process.wait(timeout=20))
        seen.append(time.monotonic())

    run_threads(job, lambda: None)
    assert seen == [0, 0]


def test_a_pipe_is_polled():
    reader, writer = multiprocessing.Pipe(duplex=False)
    seen = []

    def job():
        seen.append(reader.poll())
        writer.send(1)
        seen.append(reader.poll(5))

    run_threads(job, lambda: None)
    assert seen == [False, True]
    reader.close()
    writer.close()


@pytest.mark.parametrize("forks", ["body", "worker"])
@pytest.mark.parametrize("seed", range(8))
def test_a_forked_child_is_outside_of_the_world(seed, forks):
    """It has none of the other threads, so it must not wait for one of them, from its first lock on."""
    seen = []

    def fork():
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.01,))
        process.start()
        process.join()
        seen.append(process.exitcode)

    def others():
        for _ in range(50):
            time.sleep(0)

    with world(Schedule(kind="walk", seed=seed), 2) as new:
        beside = threading.Thread(target=others)
        beside.start()
        if forks == "body":
            fork()
        else:
            workers_of(new, 2, simulated_loop=False)(fork, others)
        beside.join()
    assert seen == [0]


def test_only_looks_in_a_turn_are_counted():
    """Whoever is outside of the simulation is in nobody's way, however often it looks."""

    def look():
        return looking()

    def reads_the_clock():
        return look()

    with world() as new:
        holder, record = new.holder, new.me()
        for new.holder, counted in ((None, 0), (holder, 1)):
            record.looks, record.looked_at = 0, new.happened
            assert reads_the_clock() == (new, record)
            assert record.looks == counted
