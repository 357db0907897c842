"""Who sends from the running code of this process."""

from __future__ import annotations

import sys
from threading import current_thread

from fake_server.protocol.actors import WORKER

__all__ = ["sender", "task_or_thread"]


def sender() -> str:
    """The worker of the running code, else its task's or its thread's name."""
    return WORKER.get() or task_or_thread()


def task_or_thread() -> str:
    """The name of the running task, else of the thread."""
    asyncio = sys.modules.get("asyncio")  # where nobody has imported it, no task runs
    try:
        task = None if asyncio is None else asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        task = None
    name: str = current_thread().name if task is None else task.get_name()
    return name
