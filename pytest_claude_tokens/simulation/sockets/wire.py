"""The client's end of one connection in memory: what the methods of a connected socket do.

The socket is a real one, so that it is what everybody expects of one, but it was never connected: no byte can leave it.
"""

from __future__ import annotations

import weakref
from errno import EAGAIN, ECONNRESET, EPIPE, ETIMEDOUT
from os import strerror
from typing import TYPE_CHECKING, Any, Protocol

from fake_server.genuine import socket
from fake_server.protocol.actors import WORKER
from fake_server.transports.senders import task_or_thread
from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.sockets.far_end import FarEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_claude_tokens.simulation.network import Network
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["WIRES", "Wire", "find", "find_number"]

WIRES: dict[int, Wire] = {}
"""The connections of this process in memory, by the number of the client's socket."""

_NUMBERS = {ConnectionResetError: ECONNRESET, TimeoutError: ETIMEDOUT}


def find(sock: Any) -> Wire | None:
    """The connection of ``sock``, if it is one in memory; it then belongs to the running world."""
    wire = find_number(sock.fileno())
    if wire is not None and (wire.owner is None or wire.owner() is not sock):
        wire.own(sock)
    return wire


def find_number(number: int) -> Wire | None:
    """The connection of the socket of that number."""
    wire = WIRES.get(number)
    if wire is None:
        return None
    place = here()
    if place is not None and wire.wires.world is not place[0] and place[0].wires is not None:
        wire.move(place[0].wires)
    return wire


class Run(Protocol):
    """All connections of one run, as one of them knows them."""

    world: World
    network: Network
    all: list[Wire]

    def run(self, step: Callable[[], object]) -> Any:
        """Let the service take a step."""
        ...

    def serve(
        self,
        record: ThreadRecord,
        wires: Sequence[Wire],
        done: Callable[[], object],
        seconds: float | None,
        *,
        hurried: bool,
    ) -> bool:
        """Serve ``wires`` until ``done()``; ``False``: that takes too long."""
        ...

    def neglect(self, wire: Wire) -> None:
        """Its client has given up waiting."""
        ...

    def forget(self, wire: Wire, error: str | None) -> None:
        """Its client is gone."""
        ...


class Wire:
    """One connection, to ``host``, which is at ``address``."""

    def __init__(self, wires: Run, sock: Any, host: str, address: tuple[Any, int]) -> None:
        self.wires: Run = wires
        self.host = host
        self.address = address
        self.number: int = sock.fileno()
        self.owner: weakref.ref[Any] | None = None
        self.patience: float | None = None
        """The time-out of the client that has sent or read last, in seconds."""
        self.asking: Any = None
        """The task for which a thread has sent last, if any."""
        self.waiting: list[ThreadRecord] = []
        self.closing: bool = False
        self._inbox = bytearray()
        self._ended = False
        self._error: type[OSError] | None = None
        self._mute = False  # the client sends no more
        self._late = False  # the client has given up waiting
        self._gone = False
        self.far: FarEnd = FarEnd(self, wires.network)
        WIRES[self.number] = self
        self.own(sock)

    def own(self, sock: Any) -> None:
        """It is the connection of that socket: when the socket is no more, the client is gone."""
        self.owner = weakref.ref(sock, lambda _: self.hang_up())

    def disown(self) -> None:
        """The socket's number lives on without it, in the socket that is made of it next."""
        self.owner = None

    def move(self, wires: Run) -> None:
        """A run has ended, and a later one uses its connection: to the client it is the same one, still open.

        A connection that was in use when its run ended was lost with it.
        """
        idle = not (self.readable or self.far.busy or self._mute)
        self.wires = wires
        self.waiting = []
        if idle:
            self.far = FarEnd(self, wires.network)
            wires.all.append(self)
        else:
            self._ended = self._gone = True

    # The service's side.

    def receive(self, data: bytes | None) -> None:
        """Data from the service; ``None``: it sends no more."""
        if data is None:
            self._ended = True
        else:
            self._inbox += data
        self.wake()

    def break_off(self, error: type[OSError]) -> None:
        """The connection is lost: reading and writing raise ``error``."""
        self._inbox.clear()
        self._error = error
        self._leave("timeout" if error is TimeoutError else None)
        self.wake()

    def now(self) -> float:
        """The simulated time."""
        return self.wires.world.now

    def wake(self) -> None:
        """There may be something to do, for whoever waits."""
        for record in self.waiting:
            self.wires.world.wake(record)

    # The client's side.

    @property
    def readable(self) -> bool:
        """Whether reading would not wait."""
        return bool(self._inbox or self._ended or self._error)

    @property
    def failed(self) -> bool:
        """Whether reading would raise."""
        return self._error is not None

    def send(self, data: Any, timeout: float | None) -> int:
        """Send all of ``data``."""
        self._raise_failed()
        if self._mute or self._gone:
            raise BrokenPipeError(EPIPE, strerror(EPIPE))
        sent = bytes(data)
        connection = self.far.connection
        connection.worker = WORKER.get()
        if connection.worker is None:
            connection.name = task_or_thread()
        self.patience = timeout
        if (place := here()) is not None:  # else the run is over
            self.asking = place[1].asking
            self.wires.run(lambda: connection.data_received(sent))
        return len(sent)

    def read(self, size: int, flags: int, timeout: float | None) -> bytes:
        """Up to ``size`` bytes; empty where the service sends no more. Raises as ``recv`` does."""
        if not size:
            return b""
        self.patience = timeout
        if not self.readable:
            self._wait(0.0 if flags & socket.MSG_DONTWAIT else timeout)
        self._raise_failed()
        inbox = self._inbox
        if flags & socket.MSG_WAITALL:
            self._serve(lambda: len(inbox) >= size or self._ended, timeout)
        data = bytes(inbox[:size])
        if not flags & socket.MSG_PEEK:
            del inbox[:size]
        return data

    def _wait(self, timeout: float | None) -> None:
        if self._serve(lambda: self.readable, timeout):
            return
        if timeout == 0:
            raise BlockingIOError(EAGAIN, strerror(EAGAIN))
        self._late = True
        self.wires.neglect(self)
        raise TimeoutError("timed out")

    def _serve(self, done: Callable[[], object], timeout: float | None) -> bool:
        place = here()
        if place is None:  # the run is over
            self._ended = True
            return True
        return self.wires.serve(place[1], [self], done, timeout, hurried=False)

    def _raise_failed(self) -> None:
        if self._error is not None:
            number = _NUMBERS[self._error]
            raise self._error(number, strerror(number))

    def shut_down(self, how: int) -> None:
        """``socket.shutdown``: both sides, or only the sending one."""
        if how != socket.SHUT_RD and not self._mute:
            self._mute = True
            self.closing = how == socket.SHUT_RDWR
            if here() is not None and not self.wires.run(self.far.connection.eof_received):
                self._ended = True
                self._leave(None)

    def hang_up(self) -> None:
        """The client has closed its socket, or dropped it."""
        if WIRES.get(self.number) is self:
            del WIRES[self.number]
        self.closing = True
        self._leave("timeout" if self._late else None)

    def _leave(self, error: str | None) -> None:
        """Tell the service, once, that the client is gone."""
        if not self._gone:
            self._gone = True
            self.wires.forget(self, error)
