"""Who sends from the running code of this process."""

from __future__ import annotations

from fake_server.genuine import asyncio, threading
from fake_server.protocol.actors import WORKER
from fake_server.transports.trio_tasks import running_trio, task_name

__all__ = ["sender", "task_or_thread"]


def sender() -> str:
    """The worker of the running code, else its task's or its thread's name."""
    return WORKER.get() or task_or_thread()


def task_or_thread() -> str:
    """The name of the running task, else of the thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        task = None
    if task is not None:
        return str(task.get_name())
    trio = running_trio()
    return threading.current_thread().name if trio is None else task_name(trio)
