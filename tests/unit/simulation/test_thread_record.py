"""The record of a thread, by itself: its events, and the check that holds them against the table."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.simulation.thread_record import ThreadEvent, ThreadRecord, ThreadState
from tests.unit.simulation.thread_events import fired_events, off_the_table


def test_every_event_is_a_method() -> None:
    """The value of an event is the name of the method that fires it."""
    for event in ThreadEvent:
        assert callable(getattr(ThreadRecord, event.value))


def test_what_is_not_on_the_table_is_noticed() -> None:
    """The check that goes with every test of the simulation can fail."""
    with fired_events() as fired:
        record = ThreadRecord("x", -1, 0)
        record.queue()
        assert off_the_table(fired) == set()
        record.wait()
    assert off_the_table(fired) == {(ThreadState.READY, ThreadEvent.WAIT, ThreadState.WAITING)}


@pytest.mark.parametrize(
    ("state", "outside", "killed", "done"),
    [
        (ThreadState.RUNNING, False, False, False),
        (ThreadState.OUTSIDE, True, False, False),
        (ThreadState.KILLED, False, True, False),
        (ThreadState.LOST, True, True, False),
        (ThreadState.DONE, False, False, True),
    ],
)
def test_what_a_state_means(state: ThreadState, outside: bool, killed: bool, done: bool) -> None:
    """A lost one is both: killed, and outside."""
    record = ThreadRecord("x", -1, 0)
    record.state = state
    assert (record.outside, record.killed, record.done) == (outside, killed, done)
