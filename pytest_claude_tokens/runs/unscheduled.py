"""Requests of a search that come over real sockets all the same: clients in C, and other processes.

They are answered, and not scheduled. Whose they are is known where the search knows who runs: the sender is the thread
that has the turn, or that lost it as it sleeps in a call of its own, and it has no request open yet.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import TYPE_CHECKING

from pytest_claude_tokens.processes import procfs
from pytest_claude_tokens.processes.forks import WorkerProcesses

if TYPE_CHECKING:
    from fake_server.protocol.wire import Request
    from fake_server.server import Server
    from fake_server.transports.loopback.host import Address
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["Unscheduled"]

_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\](\w+)")
_PRODUCT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,29}")


class Unscheduled:
    """Names the senders of one run; ``clients`` counts their requests, by the client's name for itself."""

    def __init__(self, world: World) -> None:
        self.clients: Counter[str] = Counter()
        self.server: Server | None = None
        self._world = world
        self._processes = WorkerProcesses()

    def __call__(self, request: Request, connection: str, client: Address, server: Address) -> str:
        """The name of the worker that sent ``request`` on that connection, else the connection's."""
        sender = self._sleeper()
        product = _PRODUCT.match(request.header("user-agent") or "")
        self.clients[_library(sender) or (product[0].lower() if product else "an unnamed client")] += 1
        name = self._processes(request, connection, client, server)
        return _name(sender) if sender is not None and name == connection else name

    def _sleeper(self) -> ThreadRecord | None:
        """The thread that must have sent it."""
        holder = self._world.holder
        asking = set() if self.server is None else {exchange.actor for exchange in list(self.server.open.values())}
        # Who has slept for longest sent first. The holder may also wait for the interpreter, which looks the same.
        found = [record for record in self._world.outsiders() if _sleeps(record)]
        found += [] if holder is None or holder.inside else [holder]
        return next((record for record in found if _name(record) not in asking), None)


def _sleeps(record: ThreadRecord) -> bool:
    try:
        return procfs.read_stat("self", record.native).state == "S"
    except OSError:  # pragma: no cover - no Linux, or the thread has just ended
        return False


def _name(record: ThreadRecord) -> str:
    return f"w{record.worker}" if record.worker >= 0 else record.name


def _library(record: ThreadRecord | None) -> str:
    """The installed package whose code the thread is in; some clients in C call themselves by a browser's name."""
    frame = None if record is None else sys._current_frames().get(record.ident)
    found = None if frame is None else _INSTALLED.search(frame.f_code.co_filename)
    return "" if found is None else found[1]
