"""What a run could not end: threads that compute or are blocked outside the simulation, and processes of theirs.

pytest must end all the same. A thread that computes is stopped by an exception of its own, at its next bytecode. One
that is blocked is a daemon, for which the interpreter does not wait at exit; but the modules of thread pools and of
``multiprocessing`` wait for theirs, so those forget it, and the processes are killed.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fake_server.genuine import threading, time
from pytest_claude_tokens.runs.watchdog import wants_to_run
from pytest_claude_tokens.simulation.internals import forget_pool_thread
from pytest_claude_tokens.simulation.thread_record import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_claude_tokens.simulation.thread_record import ThreadRecord

__all__ = ["children_ended", "end_threads"]

_END_TIMEOUT_SECONDS = 1.0
"""Real seconds that a killed process has to end."""
_SAMPLES, _SAMPLE_INTERVAL_SECONDS = 20, 0.004


def end_threads(left: Iterable[ThreadRecord]) -> None:
    """Stop those of the threads that compute, and have the interpreter wait for none of them at exit."""
    threads = {thread.ident: thread for thread in threading.enumerate()}
    for record in left:
        thread = threads.get(record.ident)
        if thread is None:  # it has just ended
            continue
        forget_pool_thread(thread)
        if _computes(record):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(record.ident), ctypes.py_object(Stopped))


def _computes(record: ThreadRecord) -> bool:
    """Whether a thread ever wants to run: one that shares the interpreter with others mostly waits for its lock."""
    for _ in range(_SAMPLES):
        if wants_to_run(record):
            return True
        time.sleep(_SAMPLE_INTERVAL_SECONDS)
    return False


@contextmanager
def children_ended() -> Iterator[None]:
    """After the block, kill the processes that ``multiprocessing`` has started in it and that still run."""
    before = _children()
    try:
        yield
    finally:
        for child in _children() - before:
            child.kill()
            child.join(_END_TIMEOUT_SECONDS)


def _children() -> set[Any]:
    module = sys.modules.get("multiprocessing")
    return set() if module is None else set(module.active_children())
