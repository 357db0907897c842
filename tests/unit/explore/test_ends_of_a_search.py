"""What ends a search beside Ctrl-C: signals with other handlers or none, exits, and what must not be taken for one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from pytest_claude_tokens import explore
from pytest_claude_tokens.simulation import takeover
from pytest_claude_tokens.simulation.interrupts import INTERRUPT, Terminated
from pytest_claude_tokens.simulation.thread_record import ThreadRecord
from tests.unit.explore.common import quick
from tests.unit.explore.interrupting import assert_interrupted, hello, interrupt

# Other signals, and other exceptions that end a search.


def test_what_a_handler_raises_is_raised_and_what_does_not_raise_does_not_matter():
    """As a time-out of pytest-timeout is raised; the test's own error is no longer of interest."""
    rung = []

    def ring(number, frame):
        rung.append(number)
        if len(rung) == 3:
            raise TimeoutError("rung")

    @quick
    @explore(workers=2)
    def test(workers):
        def job():
            interrupt(signal.SIGALRM)
            hello()

        workers(job)
        raise ValueError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        assert str(assert_interrupted(test, TimeoutError)) == "rung"
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(rung) >= 3


@pytest.mark.parametrize("error", [pytest.exit.Exception("enough"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("drawn", [{}, {"number": st.integers()}])
def test_an_exit_in_a_body_ends_the_search_at_once(error, drawn):
    runs = []

    @quick
    @explore(workers=2, **drawn)
    def test(workers, number=0):
        workers(hello)
        runs.append(1)
        if len(runs) == 5:
            raise error

    assert assert_interrupted(test, type(error)) is error
    assert len(runs) == 5


_PROGRAM = """
import os, signal, sys, threading
from pytest_claude_tokens import explore
import httpx

@explore(workers=2)
def test(claude_tokens, workers):
    print(claude_tokens.tmp_path, flush=True)
    def job():
        os.kill(os.getpid(), signal.SIGTERM)
        httpx.get("https://api.anthropic.com/api/hello")
    try:
        workers(job)
    finally:
        print("cleaned", flush=True)
test()
print("never")
"""


def test_sigterm_without_a_handler_ends_the_process_after_the_clean_up():
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    folder, *more = ended.stdout.splitlines()
    assert (more, ended.returncode) == (["cleaned"], -signal.SIGTERM)
    assert not os.path.exists(folder)


def test_the_signal_that_ends_the_process_is_sent_again(monkeypatch):
    sent = []
    monkeypatch.setattr(signal, "raise_signal", sent.append)

    @quick
    @explore(workers=2)
    def test(workers):
        workers(lambda: (interrupt(signal.SIGTERM), hello()))

    assert_interrupted(test, Terminated)
    assert sent == [signal.SIGTERM]


@pytest.mark.parametrize("where", ["at a switch point", "the root"])
def test_the_baton_is_not_taken_from_a_thread_that_is_about_to_hand_it_on(where, monkeypatch):
    monkeypatch.setattr(takeover, "HOLDER_SECONDS", 0)
    monkeypatch.setattr(INTERRUPT, "error", KeyboardInterrupt())
    root, other = ThreadRecord("main", -1, 0), ThreadRecord("w0", 0, 1)
    world = SimpleNamespace(root=root, holder=other, suspect=None, mutex=threading.RLock(), stopping=False)
    if where == "the root":
        world.holder = root
    other.run()
    handing_on = threading.Timer(0.2, root.run_lock.release)
    handing_on.start()
    takeover.wait_for_baton(world)
    handing_on.join()
    assert (world.stopping, world.suspect, other.outside) == (True, None, False)


def test_signals_are_left_alone_in_other_threads_and_outside_of_searches(caplog):
    seen = []

    @settings(quick, max_examples=2)
    @explore(workers=2)
    def test(workers):
        seen.append(signal.getsignal(signal.SIGINT))
        workers(hello)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=test)
    thread.start()
    thread.join()
    assert set(seen) == {before}
    test()
    assert seen[-1] != before
    assert signal.getsignal(signal.SIGINT) == before
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
