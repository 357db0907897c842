"""The life of a thread under the baton, as one table, and what is raised in such a thread by the machinery.

Two rules, as in :mod:`fake_server.core.states`:

1. The table is the specification: ``(state, event) -> state``. A pair that is not in it never happens.
2. Who may fire which event, and why the order matters, is explained at the top of :mod:`.baton`.

An event is a method of :class:`ThreadRecord`, and no more than an assignment, as each switch point of each thread of
each run fires two of them. The tests of the simulation hold every event that they fire against the table.
"""

from __future__ import annotations

from enum import Enum
from threading import get_ident, get_native_id
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.native import allocate_lock

if TYPE_CHECKING:
    from asyncio import Handle
    from collections.abc import Callable

__all__ = [
    "TABLE",
    "Stopped",
    "Stuck",
    "ThreadEvent",
    "ThreadRecord",
    "ThreadState",
    "WouldWait",
    "diagram",
    "worker_number",
]


class Stopped(BaseException):
    """Raised at the switch points of threads that outlive their world, so that they end."""


class WouldWait(RuntimeError):
    """Raised where a callable that is asked for a store's content would have to wait: it can't be asked now."""


class Stuck(BaseException):
    """Raised in the root: nobody can ever run again. A body that catches every ``Exception`` does not hide it."""


class ThreadState(Enum):
    """Where a thread is in its life."""

    NEW = "new"  # registered, and not in the queue yet
    READY = "ready"  # in the queue, or just taken from it
    RUNNING = "running"  # it has the baton
    WAITING = "waiting"  # until something wakes it, or its time is up
    AT_LOOP = "at_loop"  # the event loop's thread, between two handles: its handles are in the queue, not it
    OUTSIDE = "outside"  # blocked somewhere that the simulation does not see
    KILLED = "killed"  # its worker has died: it gets the baton once more, to end
    LOST = "lost"  # killed while it was outside
    DONE = "done"


class ThreadEvent(Enum):
    """What can happen to a thread; the value is the name of the method."""

    QUEUE = "queue"  # it can run: it has started, yields, or comes back from outside while another has the baton
    RUN = "run"  # it is given the baton, or takes the one that nobody holds
    WAIT = "wait"  # it blocks, in simulated time
    WAKE = "wake"  # what it waits for has come, or its time is up
    IDLE = "idle"  # the loop's thread has nothing to run but what is chosen
    LOSE = "lose"  # the watchdog sees that it sleeps, or it does not end when it should
    COME_BACK = "come_back"  # one that was killed while it ran, or outside, reaches a switch point
    KILL = "kill"
    END = "end"


_S, _E = ThreadState, ThreadEvent

TABLE: dict[tuple[ThreadState, ThreadEvent], ThreadState] = {
    (_S.NEW, _E.QUEUE): _S.READY,
    (_S.NEW, _E.RUN): _S.RUNNING,  # the root, which starts with the baton
    (_S.READY, _E.RUN): _S.RUNNING,
    (_S.READY, _E.KILL): _S.KILLED,
    (_S.RUNNING, _E.QUEUE): _S.READY,
    (_S.RUNNING, _E.RUN): _S.RUNNING,  # the root, while it ends all others
    (_S.RUNNING, _E.WAIT): _S.WAITING,
    (_S.RUNNING, _E.IDLE): _S.AT_LOOP,
    (_S.RUNNING, _E.LOSE): _S.OUTSIDE,
    (_S.RUNNING, _E.KILL): _S.KILLED,
    (_S.RUNNING, _E.END): _S.DONE,
    (_S.WAITING, _E.RUN): _S.RUNNING,  # its world ends
    (_S.WAITING, _E.WAKE): _S.READY,
    (_S.WAITING, _E.KILL): _S.KILLED,
    (_S.AT_LOOP, _E.RUN): _S.RUNNING,
    (_S.OUTSIDE, _E.QUEUE): _S.READY,
    (_S.OUTSIDE, _E.RUN): _S.RUNNING,
    (_S.OUTSIDE, _E.KILL): _S.LOST,
    (_S.OUTSIDE, _E.END): _S.DONE,  # its world has ended without it
    (_S.KILLED, _E.RUN): _S.KILLED,  # only to end
    (_S.KILLED, _E.LOSE): _S.LOST,
    (_S.KILLED, _E.COME_BACK): _S.KILLED,  # killed while it ran
    (_S.KILLED, _E.END): _S.DONE,
    (_S.LOST, _E.COME_BACK): _S.KILLED,
    (_S.LOST, _E.END): _S.DONE,
}


class ThreadRecord:
    """A real thread that runs under the baton.

    ``why``: what it waits for, for people. ``leave``: takes it out of the queue that it waits in. ``timer``: the number
    of its timer while it waits with a time-out. A wake sets it to 0, so that one which is still set at the end of the
    wait says that the time was up.

    ``inside``: it is in the machinery, where the watchdog must not touch it. That is no state, as it may be so in any
    of them; and it is a flag of its own since two threads write here at once: the thread says ``inside``, the watchdog
    names its suspect, and each looks at the other's word before it touches ``state``.
    """

    __slots__ = (
        "ident",
        "inbox",
        "index",
        "inside",
        "joiners",
        "leave",
        "name",
        "native",
        "run_lock",
        "state",
        "timer",
        "why",
        "worker",
    )

    def __init__(self, name: str, number: int, index: int) -> None:
        self.name = name
        self.worker = number
        self.index = index
        self.run_lock = allocate_lock()
        """Held while the thread must not run: who gives it the baton releases it."""
        self.run_lock.acquire()
        self.state = ThreadState.NEW
        self.ident = 0
        self.native = 0
        self.inbox: Handle | None = None
        self.joiners: list[ThreadRecord] = []
        self.inside = True
        self.leave: Callable[[ThreadRecord], None] | None = None
        self.timer = 0
        self.why: Callable[[], str] | str = ""

    def bind(self) -> None:
        """The calling thread is this record's."""
        self.ident = get_ident()
        self.native = get_native_id()

    # The events. An alias for a member of an enum is read in half the time of the member.

    def queue(self) -> None:
        """It can run."""
        self.state = _READY

    def run(self) -> None:
        """It gets the baton; one that was killed does so only to end."""
        if self.state is not _KILLED:
            self.state = _RUNNING

    def wait(self) -> None:
        """It blocks until it is woken."""
        self.state = _WAITING

    def wake(self) -> None:
        """It can go on."""
        self.state = _READY

    def idle(self) -> None:
        """It is the loop's thread, and runs what is chosen."""
        self.state = _AT_LOOP

    def lose(self) -> None:
        """It is blocked where the simulation does not see."""
        self.state = ThreadState.LOST if self.state is _KILLED else _OUTSIDE

    def come_back(self) -> None:
        """Its worker has died meanwhile, and it is at a switch point: it runs on only to end."""
        self.state = _KILLED

    def kill(self) -> None:
        """Its worker has died."""
        self.state = ThreadState.LOST if self.state is _OUTSIDE else _KILLED

    def end(self) -> None:
        """It runs no more."""
        self.state = ThreadState.DONE

    # What is asked of the state.

    @property
    def outside(self) -> bool:
        """Whether it is blocked where the simulation does not see."""
        return self.state is _OUTSIDE or self.state is ThreadState.LOST

    @property
    def killed(self) -> bool:
        """Whether its worker has died before its end."""
        return self.state is _KILLED or self.state is ThreadState.LOST

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.state is ThreadState.DONE


_READY, _RUNNING, _WAITING = ThreadState.READY, ThreadState.RUNNING, ThreadState.WAITING
_AT_LOOP, _OUTSIDE, _KILLED = ThreadState.AT_LOOP, ThreadState.OUTSIDE, ThreadState.KILLED


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> new"]
    lines += [f"    {state.value} --> {after.value}: {event.value}" for (state, event), after in TABLE.items()]
    return "\n".join(lines) + "\n"


def worker_number(name: str | None) -> int:
    """The number of the worker called ``name`` (``w0`` is 0), -1 for anything else."""
    return int(name[1:]) if name is not None and name[:1] == "w" and name[1:].isdecimal() else -1
