"""Process groups: who runs, and their end."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from fake_server import genuine
from pytest_claude_tokens.processes import groups
from tests.unit.processes.common import PATIENCE


@pytest.fixture
def sleeper():
    """A process in a group of its own."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def test_a_group_runs_until_its_last_process_has_ended(sleeper):
    """One that has ended, and that nobody has asked for yet, doesn't count."""
    assert groups.is_alive(sleeper.pid)
    groups.kill(sleeper.pid)
    assert groups.wait_until(lambda: not groups.is_alive(sleeper.pid), PATIENCE)
    os.killpg(sleeper.pid, 0)  # it is still there, as a zombie
    sleeper.wait()
    assert not groups.is_alive(sleeper.pid)
    groups.kill(sleeper.pid)  # and nothing happens


def test_without_proc_the_signal_s_word_must_do(sleeper, monkeypatch):
    """No Linux."""

    def missing():
        raise FileNotFoundError

    monkeypatch.setattr(groups.procfs, "process_ids", missing)
    assert groups.is_alive(sleeper.pid)


@pytest.mark.parametrize("error", [ProcessLookupError, FileNotFoundError, IndexError])
def test_a_process_that_ends_while_it_is_looked_at_is_none(sleeper, monkeypatch, error):
    """Its folder is gone, or its file is empty."""

    def vanish(process):
        raise error

    monkeypatch.setattr(groups.procfs, "read_stat", vanish)
    assert not groups.is_alive(sleeper.pid)


def test_a_group_of_another_users_is_let_be(monkeypatch):
    """It can't be ended, and is not waited for."""

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(genuine.os, "killpg", refuse)
    assert not groups.is_alive(4711)
    groups.kill(4711)


def test_the_first_word_that_is_heard_is_the_last(sleeper):
    """SIGTERM is enough."""
    groups.terminate(sleeper.pid, (signal.SIGTERM, signal.SIGINT), PATIENCE, lambda: sleeper.poll() is not None)
    assert sleeper.wait() == -signal.SIGTERM
