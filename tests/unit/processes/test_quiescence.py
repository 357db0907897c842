"""When nothing more will happen by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from time import monotonic

import pytest

from pytest_claude_tokens.processes import procfs
from pytest_claude_tokens.runs import quiescence
from pytest_claude_tokens.runs.quiescence import groups_state, wait_for_quiescence

PATIENCE = 20.0
linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")


@pytest.fixture
def started():
    """Starts processes in groups of their own, and ends them."""
    running = []

    def start(*command):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
        running.append(process)
        return process

    yield start
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@linux
def test_a_sleeper_is_quiet_and_its_children_are_seen(started):
    """The state has each thread of each process of the group."""
    process = started("sh", "-c", "sleep 600 & echo ready; wait")
    process.stdout.readline()
    assert wait_for_quiescence(lambda: [process.pid], lambda: 0, monotonic() + PATIENCE)
    states = groups_state([process.pid])
    assert len(states) == 2
    assert process.pid in {thread for thread, _, _ in states}
    assert all(state in quiescence.ASLEEP for _, state, _ in states)


@linux
def test_who_works_is_not_quiet(started):
    """Until the deadline."""
    process = started(sys.executable, "-c", "print(flush=True)\nwhile True: pass")
    process.stdout.readline()
    assert not wait_for_quiescence(lambda: [process.pid], lambda: 0, monotonic() + 0.1)


@linux
def test_news_are_waited_for(started):
    """A request that has just come may be followed by another."""
    process = started("sleep", "600")
    events = iter(range(10))
    last = []

    def number():
        last.append(next(events, 9))
        return last[-1]

    assert wait_for_quiescence(lambda: [process.pid], number, monotonic() + PATIENCE)
    assert last[-4:] == [9] * 4


def test_nobody_is_quiet():
    """There is nothing to wait for."""
    assert wait_for_quiescence(list, lambda: 0, monotonic() + PATIENCE)


def test_after_the_deadline_nothing_is_quiet():
    """It is not even looked."""
    assert not wait_for_quiescence(lambda: [1], lambda: 0, monotonic() - 1)


def test_elsewhere_quiet_is_a_while_without_news(started, monkeypatch):
    """Where there is no ``/proc``."""
    monkeypatch.setattr(procfs, "is_available", lambda: False)
    monkeypatch.setattr(quiescence, "_BLIND_POLL_INTERVAL_SECONDS", 0.001)
    process = started(sys.executable, "-c", "while True: pass")
    assert wait_for_quiescence(lambda: [process.pid], lambda: 0, monotonic() + PATIENCE)


@linux
def test_what_ends_while_it_is_looked_at_is_no_trouble(monkeypatch):
    """A process that was listed may be gone, with its threads."""
    monkeypatch.setattr(procfs, "process_ids", lambda: [999999999])
    assert groups_state([999999999]) == ()
    monkeypatch.setattr(procfs, "read_stat", lambda process, thread=None: procfs.Stat("S", 999999999, 0))
    assert groups_state([999999999]) == ()
