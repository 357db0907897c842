"""Tells the processes of one worker apart, as Linux tells which process holds the other end of a connection.

A worker that is a server with several processes (gunicorn, Celery, ``multiprocessing``) names all of them in its
environment by the one name that it was given. Their calls overlap as those of any two workers.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fake_server.genuine import os, threading
from fake_server.protocol.actors import actor_of
from pytest_claude_tokens.processes import peers, procfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.protocol.wire import Request
    from fake_server.transports.loopback.host import Address

    Process = tuple[int, int]
    """A process by its id and the time of its start, as ids are used again."""

__all__ = ["WorkerProcesses"]


class WorkerProcesses:
    """The name of a worker's process: the worker's own, ``w0``, or ``w0.1``, ``w0.2``, … where there are several.

    It has the worker's own name if it sends while no other process of the worker does: while none that had that name
    still runs, and none beside it, outside of the line of its ancestors, runs the same program. So a shell that starts
    one client after the other is one worker. Where the process can't be known, a request has the worker's name.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_connection: dict[tuple[str, int], Process | None] = {}
        self._names: dict[str, dict[Process, str]] = {}

    def __call__(self, request: Request, connection: str, client: Address, server: Address) -> str:
        """The name of the worker that sent ``request`` on that connection, or that of its process."""
        worker = request.worker
        if worker is None:
            return actor_of(request, connection)
        with self._lock:
            key = connection, client[1]
            if key not in self._of_connection:
                self._of_connection[key] = peers.holder_of(client[1], server[1], frozenset(_family()))
            process = self._of_connection[key]
            if process is None:
                return worker
            names = self._names.setdefault(worker, {})
            if process not in names:
                self._name(names, worker, process, _family())
            return names[process]

    @staticmethod
    def _name(names: dict[Process, str], worker: str, process: Process, family: dict[int, procfs.Stat]) -> None:
        holders = [other for other, name in names.items() if name == worker and _runs(other, family)]
        if holders or any(_is_same_program(process[0], other) for other in _beside(process[0], family)):
            names[process] = f"{worker}.{1 + sum(name != worker for name in names.values())}"
        else:
            names[process] = worker


def _family() -> dict[int, procfs.Stat]:
    """The processes that descend from this one and run, by id; none where there is no ``/proc``."""
    stats: dict[int, procfs.Stat] = {}
    with suppress(OSError):
        stats = procfs.running()
    mine = os.getpid()
    return {process: stat for process, stat in stats.items() if process != mine and mine in _ancestors(process, stats)}


def _ancestors(process: int, stats: dict[int, procfs.Stat]) -> Iterator[int]:
    """The processes above it, as far as they are known."""
    while process in stats:
        process = stats[process].parent
        yield process


def _beside(process: int, family: dict[int, procfs.Stat]) -> Iterator[int]:
    """The processes of the same worker that are neither above ``process`` nor below it."""
    above = [ancestor for ancestor in _ancestors(process, family) if ancestor in family]
    root = above[-1] if above else process
    for other in family:
        line = set(_ancestors(other, family))
        if root in line and other not in (process, *above) and process not in line:
            yield other


def _runs(process: Process, family: dict[int, procfs.Stat]) -> bool:
    return process[0] in family and family[process[0]].begun == process[1]


def _is_same_program(one: int, other: int) -> bool:
    with suppress(OSError):
        return os.readlink(f"/proc/{one}/exe") == os.readlink(f"/proc/{other}/exe")
    return False
