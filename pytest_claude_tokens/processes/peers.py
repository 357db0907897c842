"""Names the workers of a run by their processes: Linux tells which process holds the other end of a connection.

A client of today opens several connections: for its calls, for its metrics, for what it asks at its start. Each would
be a worker of its own if only its connection were known.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from fake_server.genuine import os, threading
from fake_server.protocol.actors import actor_of, session_of
from pytest_claude_tokens.processes import procfs

if TYPE_CHECKING:
    from fake_server.protocol.wire import Request
    from fake_server.transports.loopback.host import Address

__all__ = ["ProcessNames", "holder_of"]

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
"""The connections of this network namespace; a client on an IPv6 socket may speak IPv4, as those in Java do."""


class ProcessNames:
    """One name for each process that was started since this was made, by whatever connection its requests come.

    It is that of the first sign of the process: its session's id if it sends one at once, else its program's name and
    its process id. A gateway that sends the requests of several sessions is a worker for each of them. Where the
    process can't be known (it has ended already, or this is no Linux), its requests are named as without this.
    """

    def __init__(self) -> None:
        self._before = _processes()
        self._lock = threading.Lock()
        self._of_connection: dict[str, tuple[int, int] | None] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._sessions: dict[tuple[int, int], str] = {}

    def __call__(self, request: Request, connection: str, client: Address, server: Address) -> str:
        """The name of the worker that sent ``request`` on that connection."""
        if request.worker is not None:
            return request.worker
        with self._lock:
            process = self._process(connection, client, server)
            if process is None:
                return actor_of(request, connection)
            session = session_of(request)
            if process not in self._names:
                self._names[process] = self._unused(session or _program(process[0]))
            if session is None or self._sessions.setdefault(process, session) == session:
                return self._names[process]
            return session

    def of(self, process: int) -> str | None:
        """The name of the process with that id; ``None`` if it has sent nothing so far."""
        with self._lock:
            return next((name for (known, _), name in self._names.items() if known == process), None)

    def _process(self, connection: str, client: Address, server: Address) -> tuple[int, int] | None:
        if connection not in self._of_connection:
            self._of_connection[connection] = holder_of(client[1], server[1], _processes() - self._before)
        return self._of_connection[connection]

    def _unused(self, name: str) -> str:
        """``name``, or with a number if another process has it: two that resume one session are two workers."""
        taken = set(self._names.values())
        return name if name not in taken else next(more for n in count(2) if (more := f"{name}.{n}") not in taken)


def _processes() -> frozenset[int]:
    """The ids of all processes, less this one; none where there is no ``/proc``."""
    with suppress(OSError):
        return frozenset(procfs.process_ids()) - {os.getpid()}
    return frozenset()


def holder_of(client: int, server: int, candidates: frozenset[int]) -> tuple[int, int] | None:
    """The process among ``candidates`` that holds the client's end of a connection between these two ports.

    It is told by its id and the time of its start, as ids are used again. ``None``: none does, or has any longer.
    """
    inode = _inode(client, server)
    if inode is None:
        return None
    for process in sorted(candidates):  # of a parent and its children that share the connection, the parent
        with suppress(OSError, IndexError):  # it has just ended
            if _holds(process, f"socket:[{inode}]"):
                return process, procfs.read_stat(process).begun
    return None


def _inode(client: int, server: int) -> str | None:
    ends = f":{client:04X}", f":{server:04X}"
    for table in _TABLES:
        with suppress(OSError), open(table, encoding="ascii") as lines:
            for line in lines:
                _, here, there, *_ = fields = line.split()
                if here.endswith(ends[0]) and there.endswith(ends[1]):
                    return fields[9]
    return None


def _holds(process: int, what: str) -> bool:
    folder = f"/proc/{process}/fd"
    for name in os.listdir(folder):
        with suppress(OSError):  # it was closed just now
            if os.readlink(f"{folder}/{name}") == what:
                return True
    return False


def _program(process: int) -> str:
    name = ""
    with suppress(OSError), open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
        name = re.sub(r"[^\w.+-]+", "_", file.read().strip())
    return f"{name or 'process'}-{process}"
