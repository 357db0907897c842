"""Signals that a search sends to itself, and what must be so after it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from itertools import count
from typing import Any

import httpx
import pytest

from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.search.context import CONTEXT, ExplorationContext
from pytest_claude_tokens.simulation.interrupts import INTERRUPT
from tests.unit.explore.common import HELLO_URL

PATCHED = [(time, "time"), (time, "sleep"), (threading, "Lock"), (threading.Thread, "start"), (sys, "unraisablehook")]
"""Some of what is replaced during a search."""


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def at(wanted: int, number: int = signal.SIGINT):
    """A function that sends this process a signal when it is called for the ``wanted``-th time."""
    calls = count(1)

    def call() -> None:
        if next(calls) == wanted:
            interrupt(number)

    return call


def state() -> list[object]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGURG)]
    return [*(getattr(owner, name) for owner, name in PATCHED), *handlers, gc.isenabled(), INTERRUPT.error]


def assert_interrupted(
    test, kind: type[BaseException] = KeyboardInterrupt, *, found: type[BaseException] | None = None
) -> BaseException:
    """Run the explored ``test``: it raises ``kind``, leaves everything as it was, and says nothing of a failure.

    ``found``: what there is to be found, and may have been told before.
    """
    before = state()
    failed: list[Any] = []
    token = CONTEXT.set(ExplorationContext(failed=failed.append))
    try:
        with pytest.raises(BaseException) as raised:
            test()
    finally:
        CONTEXT.reset(token)
    assert type(raised.value) is kind
    assert state() == before
    assert all(any(type(one) is found for one in judge(told.history).violations) for told in failed)
    return raised.value


def hello() -> None:
    httpx.get(HELLO_URL)
