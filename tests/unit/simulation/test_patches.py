"""What code sees of time and chance while a body runs; and that nobody else sees any of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import os
import queue
import random
import secrets
import sys
import threading
import time
import uuid
from datetime import date, datetime
from time import monotonic, perf_counter
from time import sleep as pause
from time import time as now
from typing import Any

import pytest

from pytest_claude_tokens.simulation import native
from pytest_claude_tokens.simulation.patches import patched
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from pytest_claude_tokens.simulation.scheduler import EPOCH
from tests.unit.simulation.worlds import run_threads, stage, world

REAL = {name: getattr(time, name) for name in ("time", "monotonic", "perf_counter", "time_ns", "gmtime", "localtime")}


def inside(job, schedule=None):
    """What a job returns, as the only worker of a world."""
    with stage():
        (result,) = run_threads(job, schedule=schedule or Schedule())
    return result


# Time.


def test_every_clock_tells_simulated_time():
    """By attribute, and by a name that was imported before."""

    def job():
        pause(90.25)
        return [
            time.time(), now(), time.monotonic(), monotonic(), time.perf_counter(), perf_counter(),
            time.time_ns(), time.monotonic_ns(), time.perf_counter_ns(),
        ]  # fmt: skip

    wall, elapsed = EPOCH + 90.25, 90.25
    nanoseconds = [int(EPOCH) * 10**9 + 90_250_000_000, 90_250_000_000, 90_250_000_000]
    assert inside(job) == [wall, wall, elapsed, elapsed, elapsed, elapsed, *nanoseconds]


def test_a_client_s_stopwatch_stands_while_a_worker_is_suspended():
    """Whichever it is: the client's own goes on as if no time had passed, and its time-out doesn't fire."""
    watch: dict[str, Any] = {"__name__": "urllib3.util.timeout", "time": time}
    exec("def look(): return time.monotonic()", watch)

    def job():
        begun, before = watch["look"](), time.monotonic()
        for _ in range(4):
            pause(0)
        pause(0.25)
        return watch["look"]() - begun, time.monotonic() - before

    with stage():
        told = run_threads(job, job, schedule=Schedule(deviations=(Deviation(5, "late", 0, 700),)))
    assert [own for own, _ in told] == pytest.approx([0.25, 0.25])
    assert [seen for _, seen in told] == pytest.approx([0.95, 0.95])


def test_dates_tell_simulated_time():
    """Aware and naive ones, and the calendar of ``time``."""

    def job():
        pause(60)
        return [
            datetime.now(dt.UTC).isoformat(), dt.datetime.now(dt.UTC).timestamp(), datetime.utcnow().isoformat(),
            datetime.now().timestamp(), datetime.today().timestamp(), date.today() == date.fromtimestamp(now()),
            time.gmtime()[:6], time.mktime(time.localtime()), time.gmtime(0)[:3],
        ]  # fmt: skip

    moment = EPOCH + 60
    assert inside(job) == [
        "2026-01-01T00:01:00+00:00", moment, "2026-01-01T00:01:00", moment, moment, True,
        (2026, 1, 1, 0, 1, 0), moment, (1970, 1, 1),
    ]  # fmt: skip


def test_sleep_takes_simulated_time():
    """At once; not a negative one."""

    def job():
        with pytest.raises(ValueError, match="non-negative"):
            pause(-1)
        pause(100_000 / 2)
        return monotonic()

    before = monotonic()
    assert inside(job) == 50_000
    assert monotonic() - before < 30


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_other_threads_keep_real_time():
    """Whoever is no thread of the world sees none of it."""
    seen, go, over = {}, threading.Event(), threading.Event()

    def outsider():
        go.wait(5)
        seen["time"] = abs(time.time() - REAL["time"]()) < 5
        seen["clock"] = abs(monotonic() - REAL["monotonic"]()) < 5
        seen["date"] = abs(datetime.now().timestamp() - REAL["time"]()) < 5
        seen["utc"] = abs(datetime.utcnow().replace(tzinfo=dt.UTC).timestamp() - REAL["time"]()) < 5
        seen["calendar"] = abs(time.mktime(time.localtime()) - REAL["time"]()) < 5
        before = REAL["monotonic"]()
        pause(0.01)
        seen["sleep"] = REAL["monotonic"]() - before >= 0.01
        seen["lock"] = type(threading.Lock()) is type(native.allocate_lock())
        seen["rlock"] = type(threading.RLock()) is type(native.allocate_rlock())
        seen["queue"] = type(queue.SimpleQueue()).__module__ == "_queue"
        seen["random"] = len({os.urandom(8), os.urandom(8), secrets.token_bytes(8)}) == 3
        seen["generator"] = random.Random().random() != random.Random().random()
        seen["thread"] = started()
        loop = asyncio.new_event_loop()
        seen["loop"] = isinstance(loop, asyncio.SelectorEventLoop)
        loop.close()
        over.set()

    def started():
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        return not thread.is_alive()

    thread = threading.Thread(target=outsider)
    thread.start()
    with stage(), world():
        go.set()
        while not over.is_set():
            pass
    thread.join()
    assert all(seen.values()), seen


# Chance.


def chance():
    generator = random.Random()
    return [
        os.urandom(8), secrets.token_hex(8), str(uuid.uuid4()), random.SystemRandom().random(),
        generator.random(), random.Random(7).random(),
    ]  # fmt: skip


def test_chance_is_the_seeds():
    """One seed, one outcome; but each draw is another one, and what has a seed of its own keeps it."""
    first, again, other = (inside(chance, Schedule(seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert all(a != b for a, b in zip(first[:-1], other[:-1], strict=True))
    assert first[-1] == other[-1] == random.Random(7).random()


# The company of others.


def test_odd_things_among_the_modules_are_passed_over(monkeypatch):
    """Some libraries put objects there that have no names."""
    monkeypatch.setitem(sys.modules, "odd_one", object())
    assert inside(lambda: now()) == EPOCH  # noqa: PLW0108 - looked up inside


def test_names_of_the_stand_ins_are_those_of_the_real_things():
    """In a traceback or a log they don't surprise."""
    with patched():
        assert [time.time.__name__, time.monotonic.__qualname__, time.gmtime.__name__] == [
            "time",
            "monotonic",
            "gmtime",
        ]
        assert repr(datetime) == "<class 'datetime.datetime'>"


def test_frozen_time_is_simulated_inside_and_frozen_again_outside():
    """A test that freezes time sees simulated time in the body; so do the waits of locks."""
    freezegun = pytest.importorskip("freezegun")
    event = []

    def job():
        pause(10)
        event.append(threading.Event())
        assert not event[0].wait(5)
        return [time.time(), now(), monotonic(), datetime.now(dt.UTC).timestamp()]

    with freezegun.freeze_time("2020-02-02"):
        result = inside(job)
        assert datetime.now().isoformat() == "2020-02-02T00:00:00"
        assert time.gmtime()[:3] == (2020, 2, 2)
    assert result == [EPOCH + 15, EPOCH + 15, 15, EPOCH + 15]
    assert time.time is REAL["time"]


def test_machinery_imported_under_frozen_time_has_the_real_things():
    """It may be imported late, inside a frozen test."""
    freezegun = pytest.importorskip("freezegun")
    before = sys.modules.pop("pytest_claude_tokens.simulation.native")
    try:
        with freezegun.freeze_time("2020-02-02"):
            again = importlib.import_module("pytest_claude_tokens.simulation.native")
            assert again.REAL_DATES == before.REAL_DATES
            assert again.REAL_TIMES == before.REAL_TIMES
    finally:
        sys.modules["pytest_claude_tokens.simulation.native"] = before
        sys.modules["pytest_claude_tokens.simulation"].native = before


def test_clock_of_hypothesis_is_untouched():
    """Its deadlines and its statistics are in real time."""
    from hypothesis.internal.conjecture import engine

    with stage():
        assert engine.time is REAL["time"] or engine.time.perf_counter is time.perf_counter
        assert "pytest_claude_tokens" not in getattr(engine.__dict__.get("perf_counter"), "__module__", "")


def test_state_of_chance_is_put_back():
    """That of the module's own generator, which each run seeds; it is Hypothesis's, or the user's."""
    random.seed(5)
    state = random.getstate()
    with patched():
        random.seed(1)
        random.random()
    assert random.getstate() == state
