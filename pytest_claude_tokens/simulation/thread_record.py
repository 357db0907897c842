"""A thread under the baton, as a record, and what is raised in it by the machinery."""

from __future__ import annotations

from threading import get_ident, get_native_id
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.native import allocate_lock

if TYPE_CHECKING:
    from asyncio import Handle
    from collections.abc import Callable

__all__ = ["Stopped", "Stuck", "ThreadRecord", "WouldWait", "target"]


class Stopped(BaseException):
    """Raised at the switch points of threads that outlive their world, so that they end."""


class WouldWait(RuntimeError):
    """Raised where a callable that is asked for a store's content would have to wait: it can't be asked now."""


class Stuck(BaseException):
    """Raised in the root: nobody can ever run again. A body that catches every ``Exception`` does not hide it."""


class ThreadRecord:
    """A real thread that runs under the baton.

    ``why``: what it waits for, for people. ``inside``: it is in the machinery, where the watchdog must not touch it.
    ``outside``: it is blocked somewhere that we do not see. ``leave``: takes it out of the queue that it waits in.
    """

    __slots__ = (
        "done",
        "gate",
        "ident",
        "inbox",
        "index",
        "inside",
        "joiners",
        "killed",
        "leave",
        "name",
        "native",
        "outside",
        "target",
        "timed_out",
        "timer",
        "waiting",
        "why",
    )

    def __init__(self, name: str, number: int, index: int) -> None:
        self.name = name
        self.target = number
        self.index = index
        self.gate = allocate_lock()
        self.gate.acquire()
        self.ident = 0
        self.native = 0
        self.inbox: Handle | None = None
        self.joiners: list[ThreadRecord] = []
        self.done = False
        self.inside = True
        self.killed = False
        self.leave: Callable[[ThreadRecord], None] | None = None
        self.outside = False
        self.waiting = False
        self.timed_out = False
        self.timer = 0
        self.why: Callable[[], str] | str = ""

    def bind(self) -> None:
        """The calling thread is this record's."""
        self.ident = get_ident()
        self.native = get_native_id()


def target(name: str | None) -> int:
    """The number of the worker called ``name`` (``w0`` is 0), -1 for anything else."""
    return int(name[1:]) if name is not None and name[:1] == "w" and name[1:].isdecimal() else -1
