"""The service's end of one connection in memory: what its :class:`Connection` takes for a listener, a loop and a
transport.

No thread belongs to it. What it has to do lies in a queue, and is done by whoever waits for the reply, step by step, in
that thread's own turns. So a request over a socket takes the same switch points as one that is answered in process.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from fake_server.protocol.actors import WORKER
from fake_server.transports.loopback.connection import Connection
from fake_server.transports.loopback.http1 import Parser, hostname_of
from fake_server.transports.loopback.states import ConnectionState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fake_server.effects import Wait
    from fake_server.exchange import Exchange
    from fake_server.protocol.wire import Request
    from fake_server.server import Server
    from fake_server.transports.loopback.host import Accepted
    from fake_server.transports.loopback.http1 import Message
    from pytest_claude_tokens.simulation.network import Network

__all__ = ["FarEnd", "NearEnd"]

_UNHURRIED = ("request", "reply", "piece", "gate")
"""The waits whose length is the search's doing, or that of the other workers: no time-out of a client's counts them."""
_RESOLUTION_SECONDS = 1e-9
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class NearEnd(Protocol):
    """The client's end, as the service's end knows it."""

    address: tuple[Any, int]
    """Where the client has connected."""
    closing: bool
    """Whether the client has closed, or is about to."""
    patience: float | None
    """The time-out of the client that has sent or read last, in seconds."""
    asking: Any
    """The task for which a thread has sent last, if any."""

    def now(self) -> float:
        """The simulated time."""
        ...

    def receive(self, data: bytes | None) -> None:
        """Data from the service; ``None``: it sends no more."""
        ...

    def break_off(self, error: type[OSError]) -> None:
        """The connection is lost."""
        ...

    def wake(self) -> None:
        """There may be something to do."""
        ...


class _Timer:
    """A callback at a simulated time."""

    __slots__ = ("args", "cancelled", "function")

    def __init__(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        self.function: Callable[..., object] = function
        self.args: tuple[object, ...] = args
        self.cancelled: bool = False

    def cancel(self) -> None:
        """Never call it."""
        self.cancelled = True


class _Served(Connection):
    """The service's protocol, on an end that knows whether its client has closed or only sends no more."""

    listener: Any

    def _has_left(self) -> bool:
        return bool(self.listener.wire.closing)

    def connect(self, message: Message) -> None:
        """Grant a tunnel to a host of ours where a proxy would, and serve what comes through it."""
        if self.listener.grants(message.target):
            self.transport.write(_ESTABLISHED)
            self.parser = Parser()
        else:
            super().connect(message)


class FarEnd:
    """See the top of the module. ``wire`` is the client's end."""

    draining = False

    def __init__(self, wire: NearEnd, network: Network) -> None:
        self.wire: NearEnd = wire
        self.server: Server = network.server
        self.remedy: str = network.remedy
        self.connections: set[Accepted] = network.connections
        self.loop: Any = self
        self.why: str = ""
        """What the exchange waits for."""
        self._network = network
        self._soon: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()
        self.connection: Connection = _Served(cast("Any", self), "")
        self.connection.connection_made(cast("asyncio.Transport", self))

    # Called by whoever serves it.

    def due(self, now: float) -> bool:
        """Whether there is something to do at the simulated time ``now``."""
        timers = self._timers
        while timers and (timers[0][2].cancelled or timers[0][0] <= now + _RESOLUTION_SECONDS):
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled:
                self._soon.append((timer.function, timer.args))
        return bool(self._soon)

    def next_timer(self) -> float | None:
        """When there will be something to do, after :meth:`due` said that there is nothing now."""
        return self._timers[0][0] if self._timers else None

    def step(self) -> None:
        """Do the next thing, on behalf of the worker whose request is served."""
        if self._soon:  # else another thread that waits for the same connection has done it
            function, args = self._soon.popleft()
            token = WORKER.set(self.connection.worker)
            try:
                function(*args)
            finally:
                WORKER.reset(token)

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return self.connection.busy

    @property
    def hangs(self) -> bool:
        """Whether the request will never be answered."""
        return self.connection.state is ConnectionState.HANGING

    @property
    def unhurried(self) -> bool:
        """Whether it waits for as long as the search, or another worker, wants it to."""
        return self.busy and not self.hangs and self.why in _UNHURRIED

    # The connection's listener.

    def answers(self, host: str, port: int | None) -> bool:
        """Whether requests for that host and port are served."""
        return self._network.answers(host, port)

    def grants(self, target: str) -> bool:
        """Whether this is a connection to the proxy, which grants a tunnel to that host and port."""
        if not self._network.is_proxy(self.wire.address[1]):
            return False
        try:
            return self._network.answers(*hostname_of(target))
        except ValueError:
            return False

    def wait_hook(self, exchange: Exchange, wait: Wait) -> Wait:
        """The wait, with the duration that the schedule gives it: a leg never outlasts its client's time-out."""
        self.why = wait.why
        patience = self.wire.patience
        if patience is not None:
            wait = replace(wait, until=self.wire.now() + patience)
        self._network.asking = self.wire.asking
        drawn = self._network.wait_hook(exchange, wait)
        if patience is None or drawn.seconds is None or wait.why not in _UNHURRIED[:3]:
            return drawn
        return type(wait)(wait.why, min(drawn.seconds, patience) or None)

    def actor(self, request: Request, connection: Accepted) -> str:
        """The worker that sent ``request``."""
        return self._network.actor(request, connection)

    def local(self, request: Request) -> None:
        """``None``: every request is for the service."""
        del request

    def call(self, function: Callable[..., object], *args: object) -> None:
        """A signal has fired: whoever waits for this connection calls ``function``."""
        self._soon.append((function, args))
        self.wire.wake()

    # The connection's loop.

    def call_soon(self, function: Callable[..., object], *args: object) -> None:
        """Call ``function`` with the next step."""
        self._soon.append((function, args))

    def call_later(self, seconds: float, function: Callable[..., object], *args: object) -> _Timer:
        """Call ``function`` after ``seconds``."""
        timer = _Timer(function, args)
        heapq.heappush(self._timers, (self.wire.now() + seconds, next(self._numbers), timer))
        return timer

    # The connection's transport.

    def write(self, data: bytes) -> None:
        """Data for the client."""
        self.wire.receive(data)

    def write_eof(self) -> None:
        """No more data for the client."""
        self.wire.receive(None)

    close = write_eof
    """The client still reads what was written; when it has closed, too, the connection is lost."""

    def abort(self) -> None:
        """Reset the connection."""
        self.wire.break_off(ConnectionResetError)

    def can_write_eof(self) -> bool:
        """A client that shuts down its sending side still reads."""
        return True

    def get_extra_info(self, name: str) -> Any:
        """The socket, on which a connection sets an option before it resets it."""
        del name
        return self

    def setsockopt(self, *options: object) -> None:
        """Do nothing: an abort resets the connection as it is."""

    def pause_reading(self) -> None:
        """Do nothing: what a client sends is taken at once."""

    resume_reading = pause_reading
