"""The life of a thread under the baton, as one table, and the exceptions that the simulation raises in it.

Two rules, as in :mod:`fake_server.core.states`:

1. The table is the specification: ``(state, event) -> state``. A pair that is not in it never happens.
2. Which thread may fire which event, and why the order matters, is explained at the top of
   :mod:`pytest_claude_tokens.simulation.baton`.

An event is a method of :class:`ThreadRecord` that only assigns the state and does not consult the table: each switch
point of each thread of each run fires two. The simulation's tests check every event that they fire against the table.
"""

from __future__ import annotations

from _thread import get_ident, get_native_id
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.native import allocate_lock

if TYPE_CHECKING:
    import _thread
    from asyncio import Handle, Task
    from collections.abc import Callable

__all__ = [
    "TABLE",
    "LockWait",
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
    """Raised at the switch points of a thread that outlives its world, so that it ends."""


class WouldWait(RuntimeError):
    """Raised where code that must not switch would have to wait: a callable that is asked for a store's content (the
    store can't be read now), or a finalizer in the middle of a switch point.
    """


class Stuck(BaseException):
    """Raised in the root when nothing can ever run again. A ``BaseException``, so that ``except Exception`` in a body
    does not hide it.
    """


class ThreadState(Enum):
    """Where a thread is in its life."""

    NEW = "new"  # registered, and not in the queue yet
    READY = "ready"  # in the queue, or just taken from it
    RUNNING = "running"  # it has the baton
    WAITING = "waiting"  # until something wakes it, or its time is up
    AT_LOOP = "at_loop"  # the event loop's thread, between two handles: its handles are in the queue, not it
    OUTSIDE = "outside"  # blocked in a call that the simulation does not control
    KILLED = "killed"  # its worker was killed: it gets the baton once more, to end
    LOST = "lost"  # killed while it was outside
    DONE = "done"


class ThreadEvent(Enum):
    """What can happen to a thread; the value is the name of the method."""

    QUEUE = "queue"  # it can run: it has started, yields, or comes back from outside while another has the baton
    RUN = "run"  # it is given the baton, or takes it when no thread holds it
    WAIT = "wait"  # it blocks, in simulated time
    WAKE = "wake"  # the event that it waits for has come, or its time is up
    IDLE = "idle"  # the loop's thread waits for the handle that the scheduler chooses
    LOSE = "lose"  # the watchdog finds it asleep outside, or it does not end when it should
    COME_BACK = "come_back"  # killed while it ran or was outside, it reaches a switch point
    KILL = "kill"
    END = "end"


_S, _E = ThreadState, ThreadEvent

TABLE: dict[tuple[ThreadState, ThreadEvent], ThreadState] = {
    (_S.NEW, _E.QUEUE): _S.READY,
    (_S.NEW, _E.RUN): _S.RUNNING,  # the root, which starts with the baton
    (_S.NEW, _E.END): _S.DONE,  # it died before its first line
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


class LockWait:
    """Why a thread waits: ``waiter`` tells who it is, and where; ``holder`` who has the lock that it waits for."""

    __slots__ = ("_holder", "_waiter")

    def __init__(self, waiter: Callable[[], str], holder: Callable[[], str]) -> None:
        self._waiter = waiter
        self._holder = holder

    def __call__(self) -> str:
        return f"the lock that {self._holder()} holds"

    def sentence(self) -> str:
        """All of it."""
        return f"{self._waiter()} waits for {self()}"


class ThreadRecord:
    """A real thread that runs under the baton.

    ``why``: what it waits for, in words. ``leave``: takes it out of the queue in which it waits. ``timer``: the number
    of its timer while it waits with a time-out. A wake sets it to 0, so a timer that is still set at the end of the
    wait means that the time was up. ``locks``: the identities of the locks that it holds. ``looks``: how often it has
    read the clock since the progress number ``looked_at``. ``asking``: the task for which it does a job, if any.

    ``inside``: it is at a switch point, where the watchdog must not touch it. This is a flag and not a state, as it can
    be set in any state, and as two threads write at once: the thread sets ``inside``, the watchdog sets its suspect,
    and each reads the other's flag before it touches ``state``.
    """

    __slots__ = (
        "asking",
        "ident",
        "inbox",
        "index",
        "inside",
        "joiners",
        "leave",
        "locks",
        "looked_at",
        "looks",
        "name",
        "native",
        "run_lock",
        "state",
        "timer",
        "why",
        "worker",
    )

    def __init__(self, name: str, number: int, index: int) -> None:
        self.name: str = name
        self.worker: int = number
        self.index: int = index
        self.run_lock: _thread.LockType = allocate_lock()
        """Held while the thread must not run; the thread that hands it the baton releases it."""
        self.run_lock.acquire()
        self.state: ThreadState = ThreadState.NEW
        self.ident: int = 0
        self.native: int = 0
        self.inbox: Handle | None = None
        self.joiners: list[ThreadRecord] = []
        self.inside: bool = True
        self.leave: Callable[[ThreadRecord], None] | None = None
        self.timer: int = 0
        self.locks: frozenset[int] = frozenset()
        self.why: Callable[[], str] | str = ""
        self.asking: Task[object] | None = None
        self.looks: int = 0
        self.looked_at: int = 0

    def bind(self) -> None:
        """Make this the record of the calling thread."""
        self.ident = get_ident()
        self.native = get_native_id()

    # The events. They use aliases, as reading an alias takes half the time of reading the enum's member.

    def queue(self) -> None:
        """It can run."""
        self.state = _READY

    def run(self) -> None:
        """It gets the baton; a killed thread gets it only to end."""
        if self.state is not _KILLED:
            self.state = _RUNNING

    def wait(self) -> None:
        """It blocks until it is woken."""
        self.state = _WAITING

    def wake(self) -> None:
        """It can go on."""
        self.state = _READY

    def idle(self) -> None:
        """It is the loop's thread, and waits for the handle that is chosen next."""
        self.state = _AT_LOOP

    def lose(self) -> None:
        """It is blocked outside the simulation."""
        self.state = ThreadState.LOST if self.state is _KILLED else _OUTSIDE

    def come_back(self) -> None:
        """It was killed meanwhile, and is now at a switch point: it goes on only to end."""
        self.state = _KILLED

    def kill(self) -> None:
        """Its worker was killed."""
        self.state = ThreadState.LOST if self.state is _OUTSIDE else _KILLED

    def end(self) -> None:
        """It has ended."""
        self.state = ThreadState.DONE

    # Questions about the state.

    @property
    def outside(self) -> bool:
        """Whether it is blocked outside the simulation."""
        return self.state is _OUTSIDE or self.state is ThreadState.LOST

    @property
    def killed(self) -> bool:
        """Whether its worker was killed before the thread ended."""
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


@lru_cache(maxsize=512)  # asked for each runnable of most decisions, and there are few names
def worker_number(name: str | None) -> int:
    """The number of the worker called ``name`` (``w0`` is 0, and so is its process ``w0.1``), -1 for anything else."""
    if name is None or name[:1] != "w":
        return -1
    number = name[1:].partition(".")[0]
    return int(number) if number.isdecimal() else -1
