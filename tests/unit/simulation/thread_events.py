"""Watches the events of all threads in all worlds, and holds each against the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_claude_tokens.simulation.thread_record import TABLE, ThreadEvent, ThreadRecord, ThreadState

Fired = tuple[ThreadState, ThreadEvent, ThreadState]


@contextmanager
def fired_events() -> Iterator[list[Fired]]:
    """State, event and state after it, of what is fired inside."""
    fired: list[Fired] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        for event in ThreadEvent:
            monkeypatch.setattr(ThreadRecord, event.value, _recorded(event, fired))
        yield fired


def _recorded(event: ThreadEvent, fired: list[Fired]) -> Callable[[Any], None]:
    fire = getattr(ThreadRecord, event.value)

    def recorded(record: ThreadRecord) -> None:
        before = record.state
        fire(record)
        fired.append((before, event, record.state))

    return recorded


def off_the_table(fired: list[Fired]) -> set[Fired]:
    """Those that the table does not have, or has otherwise."""
    return {(before, event, after) for before, event, after in fired if TABLE.get((before, event)) is not after}
