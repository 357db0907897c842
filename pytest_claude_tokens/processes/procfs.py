"""Reads from ``/proc`` the state, the group and the CPU time of a process or a thread.

Linux only: elsewhere the files do not exist, and every function raises ``OSError``, as it does for an ended process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fake_server.genuine import os

__all__ = ["Stat", "is_available", "process_ids", "read_stat", "running", "thread_ids"]


@dataclass(frozen=True, slots=True)
class Stat:
    """Some fields of a ``stat`` file (``proc(5)``).

    ``state``: one letter; ``ticks``: user plus kernel time; ``begun``: when it was started, in ticks since the boot;
    ``parent``: the id of the process that started it, or that has adopted it.
    """

    state: str
    group: int
    ticks: int
    begun: int = 0
    parent: int = 0


def is_available() -> bool:
    """Whether this machine has a ``/proc``."""
    return os.path.isdir("/proc/self/task")


def process_ids() -> list[int]:
    """The ids of all processes. Raises ``OSError`` where there is no ``/proc``."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def running(among: Iterable[int] | None = None) -> dict[int, Stat]:
    """The state of each process that runs, of all or ``among`` these; a zombie, for which nobody has waited yet, does
    not. Raises ``OSError`` where there is no ``/proc``.
    """
    found = {}
    for process in process_ids() if among is None else among:
        try:
            stat = read_stat(process)
        except (OSError, IndexError):  # it has just ended; its file may be empty then
            continue
        if stat.state not in "ZX":
            found[process] = stat
    return found


def thread_ids(process: int) -> list[int]:
    """The ids of a process's threads. Raises ``OSError`` if it has ended."""
    return [int(name) for name in os.listdir(f"/proc/{process}/task")]


def read_stat(process: int | str, thread: int | None = None) -> Stat:
    """The state of a process, or of one of its threads; ``"self"`` is this one. Raises ``OSError`` if it has ended."""
    folder = f"/proc/{process}" if thread is None else f"/proc/{process}/task/{thread}"
    with open(f"{folder}/stat", "rb") as file:
        # The name, in parentheses, may itself contain spaces and parentheses: the fields follow the last parenthesis.
        fields = file.read().rpartition(b")")[2].split()
    return Stat(fields[0].decode(), int(fields[2]), int(fields[11]) + int(fields[12]), int(fields[19]), int(fields[1]))
