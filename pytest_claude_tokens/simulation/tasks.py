"""Tasks and futures that hash by number, so that their order is the same in every process; and how one is closed."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fake_server.genuine import asyncio
from fake_server.protocol.actors import WORKER
from pytest_claude_tokens.simulation.internals import exception_of, ignore_destruction
from pytest_claude_tokens.simulation.thread_record import Stopped, worker_number

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

__all__ = ["MAX_CLOSES", "SimulatedFuture", "SimulatedTask", "close_task", "has_ended", "worker_of"]

MAX_CLOSES = 100
"""How often to close a coroutine that awaits in its ``finally`` blocks, before giving up on it."""


class SimulatedTask(asyncio.Task[Any]):
    """A task whose hash is its number, so that sets of tasks have the same order in every run."""

    def __init__(self, coro: Coroutine[Any, Any, Any], *, number: int, **options: Any) -> None:
        self.number = number
        context = options.get("context")
        self.worker: int = worker_number(WORKER.get() if context is None else context.get(WORKER))
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number


class SimulatedFuture(asyncio.Future[Any]):
    """A future whose hash is its number."""

    number = 0

    def __hash__(self) -> int:
        return self.number


def worker_of(task: asyncio.Task[Any]) -> int:
    """The number of the worker that a task belongs to; -1 for none, and for a task made by a user's own factory."""
    worker: int = getattr(task, "worker", -1)
    return worker


def has_ended(task: Any) -> bool:
    """Whether a task has ended by itself, and not because its world did."""
    return task.done() and (task.cancelled() or not isinstance(exception_of(task), Stopped))


def close_task(task: Any) -> None:
    """Close the coroutine of a task that its world, or the schedule, has ended, and keep ``asyncio`` from logging it.

    The user's code did not abandon the task, so "Task was destroyed but it is pending" and the errors of its
    ``finally`` blocks would be false alarms.
    """
    ignore_destruction(task)
    coroutine = task.get_coro()
    for _ in range(MAX_CLOSES):
        with suppress(BaseException):  # a coroutine that awaits in a ``finally`` block raises RuntimeError
            # From the inside: that error would end the outer ones, and leave the inner one to the collector.
            for each in reversed([*_awaiting(coroutine)]):
                each.close()
            return
    # Leaked on purpose: Python would close it again when it is deleted, at the latest at exit, and might loop for ever.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))


def _awaiting(coroutine: Any) -> Iterator[Any]:
    """A coroutine and what it awaits, from the outermost to the innermost, as far as they can be closed."""
    while hasattr(coroutine, "close"):
        yield coroutine
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
