"""Processes that a body starts live in real time: who looks for what one does sees it in time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import httpx
import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.processes import procfs
from pytest_claude_tokens.runs import children as module
from pytest_claude_tokens.runs.children import noticing_children
from pytest_claude_tokens.simulation.interrupts import INTERRUPT
from pytest_claude_tokens.violations import Nondeterministic
from tests.unit.explore.common import HELLO_URL, hello, quick, search
from tests.unit.simulation.worlds import world

pytestmark = pytest.mark.skipif(not procfs.is_available(), reason="there is no /proc")
REAL_SECONDS = 0.1
PATIENCE_SECONDS = 8.0
"""Simulated seconds after which a worker gives up, within the limit of real ones."""


def given_up(since):
    if time.monotonic() > since + PATIENCE_SECONDS:
        raise TimeoutError("it has not come")


def command(script):
    return subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({REAL_SECONDS}); {script}"])


def until_it_ends(folder, pause):
    with command("") as process:
        since = time.monotonic()
        while process.poll() is None:
            given_up(since)
            pause()


def until_it_has_written(folder, pause):
    path = folder / "ready"
    path.unlink(missing_ok=True)
    with command(f"open({str(path)!r}, 'w').close()"):
        since = time.monotonic()
        while not path.exists():
            given_up(since)
            pause()


def until_a_pool_has_done_it(folder, pause):
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        job, since = pool.submit(time.sleep, REAL_SECONDS), time.monotonic()
        while not job.done():
            given_up(since)
            pause()


WAYS = [until_it_ends, until_it_has_written, until_a_pool_has_done_it]


def say_hello():
    """A request, so that something races."""
    httpx.get(HELLO_URL).raise_for_status()


def in_a_worker(way, folder):
    @settings(quick, max_examples=1)
    @explore()
    def test(claude_tokens, workers):
        def look():
            say_hello()
            way(folder, lambda: time.sleep(0.01))

        workers(look, say_hello)

    return test


def in_the_body(way, folder):
    @settings(quick, max_examples=1)
    @explore()
    def test(claude_tokens, workers):
        workers(say_hello)
        way(folder, lambda: time.sleep(0))

    return test


@pytest.mark.parametrize("place", [in_a_worker, in_the_body])
@pytest.mark.parametrize("way", WAYS)
def test_who_looks_at_a_process_sees_it_in_time(way, place, tmp_path):
    """And two runs of one schedule are the same but for their times."""
    assert search(place(way, tmp_path)).error is None


def test_a_task_that_looks_at_a_process_sees_it_in_time():
    @settings(quick, max_examples=1)
    @explore()
    async def test(claude_tokens, workers):
        await workers(hello)
        with command("") as process:
            since = time.monotonic()
            while process.poll() is None:
                given_up(since)
                await asyncio.sleep(0.05)

    assert search(test).error is None


def test_an_order_that_changes_is_nondeterministic_all_the_same(tmp_path):
    """Only times may differ where a run waits for a process."""
    runs = []

    @settings(quick, max_examples=1)
    @explore()
    def test(claude_tokens, workers):
        runs.append(1)
        for _ in runs:
            workers(say_hello)
        until_it_ends(tmp_path, lambda: time.sleep(0.01))

    assert type(search(test).error) is Nondeterministic


class Told:
    """Processes that a test tells of, and a clock that moves with each sleep."""

    def __init__(self, monkeypatch):
        self.now, self.alive = 0.0, frozenset({1})
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "REAL_TIMES", {"sleep": self.sleep})
        monkeypatch.setattr(module, "_children", lambda among=None: self.alive.intersection(*filter(None, [among])))

    def sleep(self, seconds):
        self.now += seconds

    def start(self, process):
        """By a thread of a new world; returns what that knows of its processes."""
        with world() as new:
            self.notes.note("os.fork", ())
            self.alive |= {process}
            return new.children

    notes: module.Notes


@pytest.fixture
def told(monkeypatch):
    told = Told(monkeypatch)
    told.notes = module.Notes()
    return told


def test_time_takes_as_long_as_on_the_machine_s_clock_up_to_a_limit(told):
    """A second between two decisions, ten in a run; what was there before is not waited for."""
    children = told.start(2)
    took = []
    for _ in range(12):
        begun = told.now
        children.keep_pace(5.0, lambda: True)
        took.append(round(told.now - begun, 2))
    assert took == [1.0] * 10 + [0.0] * 2
    assert children.waited
    assert children.vain_seconds == pytest.approx(10)


def test_nothing_is_waited_for_that_has_ended_or_never_began(told):
    children = told.start(2)
    told.alive -= {2}
    for _ in range(20):  # it is looked for some times, as it may be about to start
        children.keep_pace(1.0, lambda: True)
    assert told.now == 0
    assert not children.waited
    told.alive |= {2}
    children.keep_pace(1.0, lambda: True)
    assert told.now == 0  # it is another one by now, of which nobody was told


def test_the_end_of_a_process_and_a_thread_that_comes_back_end_the_wait(told, monkeypatch):
    ends, back = told.start(2), told.start(3)
    back.keep_pace(0.01, lambda: True)
    assert back.vain_seconds == pytest.approx(0.01)
    back.keep_pace(1.0, lambda: False)
    assert told.now == pytest.approx(0.012)
    assert back.vain_seconds == 0
    ends.keep_pace(0.01, lambda: True)
    told.alive -= {2, 3}
    ends.keep_pace(1.0, lambda: True)
    assert told.now == pytest.approx(0.022)
    assert ends.vain_seconds == 0
    monkeypatch.setattr(INTERRUPT, "error", KeyboardInterrupt())
    told.start(4).keep_pace(1.0, lambda: True)
    assert told.now == pytest.approx(0.022)


def test_a_search_waits_no_more_for_what_never_ends(told):
    """As a service that each run starts and ends."""
    waited = 0
    while (children := told.start(2)) is not None:
        children.keep_pace(0.9, lambda: True)
        waited += 1
        told.alive -= {2}
    assert waited == 23  # of 0.9 s each: 20 s and the run in which they were up
    assert told.start(2) is None


def test_a_run_waits_for_each_that_it_starts(told):
    """The second is looked for, too, when the first has ended."""
    with world() as new:
        told.notes.note("os.fork", ())
        told.alive |= {2}
        children = new.children
        children.keep_pace(0.01, lambda: True)
        told.alive -= {2}
        told.notes.note("subprocess.Popen", ())
        assert new.children is children
        told.alive |= {3}
        children.keep_pace(0.01, lambda: True)
    assert told.now == pytest.approx(0.02)


def test_outside_of_a_search_nobody_is_told(monkeypatch):
    module.Notes().note("os.fork", ())
    monkeypatch.setattr(procfs, "is_available", lambda: False)
    with noticing_children(), world() as new:
        subprocess.run(["true"], check=True)
        assert new.children is None
