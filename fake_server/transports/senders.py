"""Who sends from the running code of this process."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from fake_server.genuine import asyncio, threading
from fake_server.protocol.actors import WORKER
from fake_server.transports.trio_tasks import running_trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["name_anew", "sender", "task_or_thread"]


class _Names:
    """What tasks and threads are called: each by its own name, as long as no other one is that has not ended.

    anyio gives its tasks the name of their function, and so do many people: two of them at once are two senders.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: WeakKeyDictionary[Any, tuple[str, str]] = WeakKeyDictionary()
        self._holders: WeakValueDictionary[tuple[str, int], Any] = WeakValueDictionary()
        self._numbers = count(1)

    def apart(self, who: Any, name: str, has_ended: Callable[[Any], bool]) -> str:
        """What ``who`` is called, whose own ``name`` another one may have that has not ended."""
        with self._lock:
            before, told = self._names.get(who, ("", ""))
            if before != name:
                number = next(n for n in count(1) if (one := self._holders.get((name, n))) is None or has_ended(one))
                self._holders[name, number] = who
                told = name if number == 1 else f"{name}-{number}"
                self._names[who] = name, told
            return told

    def numbered(self, who: Any, name: str) -> str:
        """What ``who`` is called, whose ``name`` is that of many."""
        with self._lock:
            if who not in self._names:
                self._names[who] = name, f"{name}-{next(self._numbers)}"
            return self._names[who][1]


class _Current:
    names = _Names()


def name_anew() -> None:
    """Forget who was called what: a run that begins now gives the names that an equal one has given."""
    _Current.names = _Names()


def sender() -> str:
    """The worker of the running code, else its task's or its thread's name."""
    return WORKER.get() or task_or_thread()


def task_or_thread() -> str:
    """The name of the running task, else of the thread."""
    names = _Current.names
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        task = None
    if task is not None:
        name = str(task.get_name()).rpartition("<locals>.")[2]  # in anyio it is that of a function
        return names.apart(task, name, lambda other: bool(other.done()))
    if (trio := running_trio()) is not None:
        task = trio.lowlevel.current_task()  # it has the name of its function
        return names.numbered(task, task.name.rpartition(".")[2])
    thread = threading.current_thread()
    return names.apart(thread, thread.name, lambda other: not other.is_alive())
