"""What a program has started ends with it, even where it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.processes import reaper
from pytest_claude_tokens.processes.reaper import Reaper
from tests.unit.processes.common import alive, until

SPAWNING = """
import signal
from pytest_claude_tokens import ClaudeTokens

with ClaudeTokens() as tokens:
    print(tokens.spawn(["sleep", "600"]).pid, tokens.spawn(["sh", "-c", "sleep 600 & wait"]).pid, flush=True)
    signal.pause()
"""
RUNNING = """
from pytest_claude_tokens.cli.main import main

main(["run", "--", "sh", "-c", "sleep 1; echo $$; exec sleep 600"])  # nothing tells when the watch has heard of it
"""


@pytest.fixture
def sleeper():
    """A process in a group of its own."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("program", [SPAWNING, RUNNING], ids=["handle", "run"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_the_program_that_started_them(number, program):
    """However it ends, and whatever it could still do itself."""
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    numbers = [int(word) for word in starter.stdout.readline().split()]
    assert numbers
    assert all(map(alive, numbers))
    starter.send_signal(number)
    starter.communicate(timeout=30)
    until(lambda: not any(map(alive, numbers)))


def test_only_what_has_not_ended_is_ended(sleeper):
    """A group that was taken back is another one's by now, perhaps; those around it are not."""
    others = [subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2)]
    watch = Reaper()
    watch.start()
    watch.begun(others[0].pid)
    watch.begun(sleeper.pid)
    watch.begun(others[1].pid)
    watch.ended(sleeper.pid)
    watch.close()
    assert [process.wait(30) for process in others] == [-signal.SIGKILL] * 2
    assert sleeper.poll() is None


def test_a_number_that_is_part_of_another_one_is_not_that_one(sleeper):
    """Groups are told apart as words."""
    watch = Reaper()
    watch.start()
    watch.begun(sleeper.pid)
    longer = int(f"{sleeper.pid}00000000")  # no process can have it
    watch.begun(longer)
    watch.ended(longer)
    watch.close()
    assert sleeper.wait(30) == -signal.SIGKILL


def test_without_a_process_there_is_no_shell():
    """To close it, or to take something back, does nothing."""
    watch = Reaper()
    watch.ended(1)
    assert watch._shell is None
    watch.close()


def test_a_watch_that_somebody_has_ended_hinders_nobody():
    """What is left is ended by the handle itself, as ever."""
    with ClaudeTokens() as tokens:
        first = tokens.spawn(["sleep", "600"])
        shell = tokens._children._reaper._shell
        os.kill(shell.pid, signal.SIGKILL)
        shell.wait(30)
        second = tokens.spawn(["sleep", "600"])
    assert [first.returncode, second.returncode] == [-signal.SIGKILL] * 2


FORKING = """
import multiprocessing, signal
from pytest_claude_tokens import ClaudeTokens

context = multiprocessing.get_context("fork")
with ClaudeTokens() as tokens:
    spawned = tokens.spawn(["sleep", "600"])
    child = context.Process(target=signal.pause, daemon=True)
    child.start()
    print(spawned.pid, child.pid, flush=True)
    signal.pause()
"""


def test_a_fork_of_the_program_does_not_count_as_the_program():
    """Though it has a copy of all that was open: who spawned is gone, so what it has spawned goes."""
    starter = subprocess.Popen([sys.executable, "-c", FORKING], stdout=subprocess.PIPE, text=True)
    spawned, child = (int(word) for word in starter.stdout.readline().split())
    try:
        starter.kill()
        starter.wait(30)
        until(lambda: not alive(spawned))
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)
        starter.communicate(timeout=30)


def test_a_fork_lets_go_without_a_word(sleeper):
    """Its watch is no child of its own: there is nothing to wait for, or to warn of."""
    watch, idle = Reaper(), Reaper()
    watch.start()
    watch.begun(sleeper.pid)
    shell = watch._shell
    reaper._after_fork()  # as in the child; here, where both are one, it ends the watch, and the group
    assert (watch._shell, idle._shell, shell.returncode) == (None, None, 0)
    assert sleeper.wait(30) == -signal.SIGKILL
    os.waitpid(shell.pid, 0)


def test_a_shell_that_does_not_end_is_ended(monkeypatch):
    """Whatever it is: nobody waits for it for ever."""
    monkeypatch.setattr(reaper, "_SCRIPT", "trap '' TERM; sleep 600")
    monkeypatch.setattr(reaper, "_SHELL_TIMEOUT_SECONDS", 0.01)
    watch = Reaper()
    watch.start()
    shell = watch._shell
    watch.close()
    assert shell.returncode == -signal.SIGKILL


def test_threads_share_one_shell():
    """Many that spawn at once are watched by one."""
    with ClaudeTokens() as tokens:
        barrier = threading.Barrier(4)

        def spawn():
            barrier.wait()
            tokens.spawn(["sleep", "600"])

        threads = [threading.Thread(target=spawn) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shell = tokens._children._reaper._shell
    assert shell.returncode == 0


def test_taking_back_what_was_never_made_changes_nothing(sleeper):
    """The list stays as it is."""
    watch = Reaper()
    watch.start()
    watch.begun(sleeper.pid)
    watch.ended(4_000_000_000)
    watch.ended(sleeper.pid)
    watch.close()
    assert sleeper.poll() is None
