"""Waits for the end of a program, or for a reason to end it: a signal, or a time limit."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fake_server.genuine import time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_claude_tokens.processes.groups import ProcessGroup

__all__ = ["caught_signals", "end", "wait"]

_POLL_INTERVAL_SECONDS = 0.1
"""Between two checks for a signal."""


@contextmanager
def caught_signals() -> Iterator[list[int]]:
    """The termination signals received in the block. Signals that are ignored or have a handler are left alone."""
    caught: list[int] = []
    before = {}
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == usual:
            with suppress(ValueError):  # not in the main thread, where no handler can be set
                before[number] = signal.signal(number, lambda got, _: caught.append(got))
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(program: ProcessGroup, timeout: float | None, caught: Sequence[int]) -> str:
    """Wait for the program's end; returns ``""``, or the reason why it must be ended.

    ``timeout``: seconds of real time, ``None`` for no limit. ``caught``: see :func:`caught_signals`.
    """
    began = time.monotonic()
    while True:
        if caught:
            return f"no end when {signal.Signals(caught[0]).name} came, after {time.monotonic() - began:.1f} s"
        interval = _POLL_INTERVAL_SECONDS
        left = interval if timeout is None else min(interval, began + timeout - time.monotonic())
        if left <= 0:
            return f"no end after {timeout:g} s"
        with suppress(subprocess.TimeoutExpired):
            program.process.wait(left)
            return ""


def end(program: ProcessGroup, grace_period: float, caught: Sequence[int]) -> None:
    """Send the program the signal that was caught, then SIGTERM, then SIGKILL, ``grace_period`` seconds apart.

    A further caught signal, from a user who does not want to wait, cuts these waits short.
    """
    impatient = 2 if caught else 1
    numbers = dict.fromkeys((*caught[:1], signal.SIGTERM))
    program.terminate(numbers, grace_period, lambda: len(caught) >= impatient or program.has_ended())
