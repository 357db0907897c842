"""What is read from ``/proc``: processes and threads, whatever they are called."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from pytest_claude_tokens.processes import procfs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")

NOBODY = 999_999_999


def test_this_process_is_read():
    """It runs, in its own group, by its number as by its nickname."""
    assert procfs.is_available()
    assert os.getpid() in procfs.process_ids()
    assert procfs.read_stat(os.getpid()).group == procfs.read_stat("self").group == os.getpgrp()


def test_thread_that_reads_itself_runs_and_one_that_waits_sleeps():
    """The state is one letter."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert procfs.read_stat("self", threading.get_native_id()).state == "R"
        assert {thread.native_id, threading.get_native_id()} <= set(procfs.thread_ids(os.getpid()))
        until = time.monotonic() + 20
        while procfs.read_stat("self", thread.native_id).state != "S":
            assert time.monotonic() < until
    finally:
        over.set()
        thread.join()


def test_time_that_is_used_is_counted():
    """In ticks: a hundred of them are a second, mostly."""
    before = procfs.read_stat("self").ticks
    until = time.process_time() + 5 / os.sysconf("SC_CLK_TCK")
    while time.process_time() < until:
        pass
    assert procfs.read_stat("self").ticks > before


def test_name_may_have_anything_in_it(monkeypatch, tmp_path):
    """Fields are counted from the last parenthesis on."""
    name = "/proc/self/comm"
    with open(name, encoding="ascii") as file:
        before = file.read().rstrip("\n")
    with open(name, "w", encoding="ascii") as file:
        file.write("a) S (b c")
    try:
        assert procfs.read_stat("self").group == os.getpgrp()
    finally:
        with open(name, "w", encoding="ascii") as file:
            file.write(before)


def test_one_that_has_ended_raises():
    """As it does where there is no such file at all."""
    with pytest.raises(OSError):
        procfs.read_stat(NOBODY)
    with pytest.raises(OSError):
        procfs.thread_ids(NOBODY)


def test_who_runs_is_neither_ended_nor_a_zombie(monkeypatch):
    """Nor one that ends while it is looked at, whose file is empty then."""
    child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    while procfs.read_stat(child.pid).state != "Z":
        time.sleep(0.001)
    assert os.getpid() in procfs.running()
    assert procfs.running([child.pid, NOBODY]) == {}
    child.wait()

    real = procfs.read_stat

    def vanish(process: int) -> procfs.Stat:
        raise IndexError

    monkeypatch.setattr(procfs, "read_stat", vanish)
    assert procfs.running() == {}
    assert real("self").group == os.getpgrp()
