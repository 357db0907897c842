"""Every test here runs on the stage of a search."""

from __future__ import annotations

import threading

import pytest

from tests.unit.simulation.thread_events import fired_events, off_the_table
from tests.unit.simulation.worlds import stage


@pytest.fixture(scope="module")
def staged():
    """The stage, set up once for a module: its patches take some milliseconds.

    What happens to a thread on it is in the table of :mod:`pytest_claude_tokens.simulation.thread_record`.
    """
    with fired_events() as fired, stage():
        yield
    assert off_the_table(fired) == set()


@pytest.fixture
def no_threads_left():
    """Whatever a test does, its threads end with it."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()
