"""What computes without end is given up, and pytest ends all the same."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import multiprocessing
import os
import threading
import time

import pytest

from pytest_claude_tokens.runs import watchdog
from pytest_claude_tokens.runs.leftovers import children_ended, end_threads
from pytest_claude_tokens.simulation.thread_record import ThreadRecord
from tests.unit.simulation.worlds import outcome_of, run_threads, world

pytestmark = pytest.mark.usefixtures("staged")


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr(watchdog, "STUCK_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(watchdog, "COMPUTING_SECONDS", 0.1)
    monkeypatch.setattr(watchdog, "_MORE_COMPUTING_SECONDS", 0.05)


def text_of(body) -> str:
    error = outcome_of(body).error
    assert type(error).__name__ == "Unknown"
    return str(error)


def gone(name: str) -> bool:
    """Whether the threads of that name have ended."""
    until = time.monotonic() + 10
    while any(thread.name == name for thread in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.01)
    return time.monotonic() < until


def test_threads_that_compute_without_end_are_unknown_and_stopped():
    def body(workers):
        def computes():
            while True:
                pass

        workers(computes)

    text = text_of(body)
    assert "w0 is stuck: " in text
    assert "w1 is stuck: " in text
    assert "test_leftovers.py:" in text
    assert gone("w0")
    assert gone("w1")


def test_threads_that_all_compute_are_given_up_sooner_than_those_that_wait(monkeypatch):
    """One that waits outside may be in the middle of what takes a while: a process, a file of the network's."""
    monkeypatch.setattr(watchdog, "STUCK_TIMEOUT_SECONDS", 600.0)
    monkeypatch.setattr(watchdog, "STILL_COMPUTING_SECONDS", 0.1)

    def body(workers):
        def computes():
            while True:
                pass

        workers(computes)

    assert "w0 is stuck: " in text_of(body)

    used = {"computes": 1.0, "waits": 0.0}
    monkeypatch.setattr(watchdog, "_cpu_seconds", used.get)
    assert watchdog._all_compute({"computes": 0.5}, 1.0)
    assert not watchdog._all_compute({"computes": 0.5}, 0.1)
    assert not watchdog._all_compute({"computes": 0.5, "waits": 0.0}, 1.0)
    assert not watchdog._all_compute({}, 1.0)


@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_a_body_that_computes_without_end_is_unknown(kind):
    def threads(workers):
        while True:
            pass

    async def tasks(workers):
        async def computes():
            while True:
                pass

        await asyncio.gather(workers(computes))

    assert "main is stuck: " in text_of(tasks if kind == "tasks" else threads)


def test_a_thread_that_computes_for_long_and_ends_is_spared(monkeypatch):
    """The other goes on beside it."""
    monkeypatch.setattr(watchdog, "STUCK_TIMEOUT_SECONDS", 20)
    ended = []

    def computes():
        until = time.thread_time() + 0.3
        while time.thread_time() < until:
            pass
        ended.append("computed")

    run_threads(computes, lambda: ended.append("other"))
    assert ended == ["other", "computed"]


def test_a_body_that_computes_in_our_code_is_not_ended(monkeypatch):
    """In the judge, say, which may have much to read."""

    def body(claude_tokens, workers):
        until = time.thread_time() + 0.5
        observers = claude_tokens.server.journal.observers

        def slow(event):
            while time.thread_time() < until:
                pass

        observers.append(slow)
        claude_tokens.account()
        observers.remove(slow)

    assert outcome_of(body).error is None


def test_a_body_in_another_thread_than_the_main_is_not_interrupted():
    """No signal would reach it."""
    dog = watchdog.Watchdog()
    with world() as new:
        dog._interrupt(new)
        dog._end_computing(new, new.root)
        assert (new.stuck, dog._computing) == (False, None)


def test_a_pool_of_a_blocked_thread_is_not_waited_for_at_exit():
    reader, writer = os.pipe()
    before = set(concurrent.futures.thread._threads_queues)

    def body(workers):
        pools = []

        def blocked():
            pools.append(concurrent.futures.ThreadPoolExecutor(1))
            pools[-1].submit(os.read, reader, 1).result()

        workers(blocked)

    try:
        assert " is stuck: " in text_of(body)
        assert set(concurrent.futures.thread._threads_queues) <= before
    finally:
        os.write(writer, b"ab")
        os.close(writer)
        assert gone("ThreadPoolExecutor")
        os.close(reader)


def test_a_thread_that_has_just_ended_is_nobodys_business():
    record = ThreadRecord("w0", 0, 0)
    record.ident = 1
    end_threads([record])


def test_processes_of_a_search_end_with_it_and_those_from_before_do_not():
    fork = multiprocessing.get_context("fork")
    before = fork.Process(target=time.sleep, args=(60,))
    before.start()
    with children_ended():
        started = fork.Process(target=time.sleep, args=(60,))
        started.start()
    assert started.exitcode is not None
    assert before.exitcode is None
    before.kill()
    before.join()
