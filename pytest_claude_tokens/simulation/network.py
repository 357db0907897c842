"""A network in memory, so that any asyncio client works unchanged. Only the service's hosts exist in it.

TLS is not spoken: encryption is the event loop's job, and this loop only pretends that it has taken place.
Name look-ups of the served hosts and of loopback give an address of TEST-NET-1 (RFC 5737); all others fail.
"""

from __future__ import annotations

import contextvars
from collections import deque
from errno import ECONNREFUSED, ECONNRESET
from os import strerror
from typing import TYPE_CHECKING, Any

from fake_server.effects import Wait
from fake_server.genuine import asyncio, socket
from fake_server.hosts import KNOWN_HOSTS, NAME_IT, hosts_of, is_loopback
from fake_server.protocol.actors import WORKER, actor_of
from fake_server.transports.loopback.connection import Connection
from fake_server.transports.senders import sender
from pytest_claude_tokens.simulation.thread_record import worker_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fake_server.exchange import Exchange
    from fake_server.protocol.wire import Request
    from fake_server.server import Server
    from fake_server.transports.loopback.host import Accepted
    from pytest_claude_tokens.simulation.waiter import SimulatedWaiter

__all__ = ["Network"]

_PREFIX = "192.0.2."


class Network:
    """The server's side of every connection of one run: a listener without sockets."""

    draining = False
    remedy = NAME_IT

    def __init__(
        self,
        server: Server,
        waiter: SimulatedWaiter,
        hosts: Iterable[str] = (),
        *,
        own: Callable[[int], bool] = lambda port: False,
        proxy: Callable[[int], bool] = lambda port: False,
    ) -> None:
        self.server = server
        self.connections: set[Accepted] = set()
        self._waiter = waiter
        self._own = own
        """Whether the service of the run listens at that port of loopback."""
        self.is_proxy = proxy
        """The same of its proxy, which grants tunnels."""
        self._hosts = hosts_of((*KNOWN_HOSTS, *hosts))
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}  # the other way round
        self._connected: dict[socket.socket, str] = {}
        self._sockets: list[socket.socket] = []
        self._count = 0
        self.asking: asyncio.Task[Any] | None = None
        """The task whose data arrives."""
        self._clients: dict[Exchange, asyncio.Task[Any] | None] = {}
        self._waiting: dict[Exchange, int] = {}
        self.loop: asyncio.AbstractEventLoop

    # Called by connections.

    def answers(self, host: str, port: int | None) -> bool:
        """Whether requests for that host and port are served."""
        return self._hosts.match(host, port) or is_loopback(host)

    def wait_hook(self, exchange: Exchange, wait: Wait) -> Wait:
        """The wait, with the duration that the schedule gives it."""
        patience = self._waiter.world.patience
        client = self._clients.setdefault(exchange, self.asking)
        patience.end(self._waiting.get(exchange, 0))
        self._waiting[exchange] = patience.begin(
            wait, worker_number(exchange.actor), client, lambda: exchange.op not in self.server.open
        )
        seconds = self._waiter.seconds(wait, self._waiting[exchange])
        return wait if wait.signal is not None else Wait(wait.why, seconds or None)

    def actor(self, request: Request, connection: Accepted) -> str:
        """The worker that sent ``request``."""
        return actor_of(request, connection.name)

    def local(self, request: Request) -> None:
        """``None``: every request is for the service."""
        del request

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call ``function`` in the loop, on behalf of the worker whose connection it belongs to.

        In the caller's context the call would count as the caller's, and be lost when that worker is frozen or killed.
        """
        context = contextvars.copy_context()
        context.run(WORKER.set, getattr(getattr(function, "__self__", None), "worker", None))
        self.loop.call_soon_threadsafe(function, *args, context=context)

    # Called by clients that block: what is not ours is left to the real network, and to the guard.

    def address_of(self, host: str | bytes, port: int | None) -> str | None:
        """The simulated address of ``host`` where the service answers for it, at ``port``."""
        return self.look_up(host) if self._hosts.match(host, port) else None

    def host_at(self, host: str | bytes, port: int) -> str | None:
        """The name of ``host``, a name or an address, where the service answers at ``port``; ``None``: it is not ours.

        Raises ``ConnectionRefusedError`` where the host is ours, and the port is not.
        """
        text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        name = self._names.get(text, text)
        if self._hosts.match(name, port) or ((self._own(port) or self.is_proxy(port)) and is_loopback(name)):
            return name
        if name != text:
            self.server.refused(sender(), self.remedy, host=name, port=port)
            raise ConnectionRefusedError(ECONNREFUSED, strerror(ECONNREFUSED))
        return None

    # Called by the loop.

    def look_up(self, host: str | bytes, port: Any = None) -> str:
        """The simulated address of ``host``. Raises ``socket.gaierror``, also where nobody answers at ``port``."""
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
        name = self._names.get(name, name)
        if not self.answers(name, int(port) if port else None):
            self.server.refused(sender(), self.remedy, host=name, port=port or None)
            message = f"{name}: there is no such host in the simulated network, only the token service"
            raise socket.gaierror(socket.EAI_NONAME, message)
        address = self._addresses.setdefault(name, f"{_PREFIX}{len(self._addresses) + 1}")
        self._names[address] = name
        return address

    def bind(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Treat ``sock`` as connected from now on. Raises ``ConnectionRefusedError``."""
        try:
            self._connected[sock] = self.look_up(*address[:2])
        except socket.gaierror as error:
            raise ConnectionRefusedError(str(error)) from None

    def connect(
        self, factory: Callable[[], asyncio.BaseProtocol], *, sock: socket.socket | None, secure: Any
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect a client to the fake. ``secure``: the TLS settings that the client asked for, or ``None``."""
        if sock is not None and self._connected.pop(sock, None) is None:
            raise OSError("this socket was not connected in the simulated network")
        self._count += 1
        self.note_request(asyncio.current_task(self.loop))
        protocol = factory()
        server = Connection(self, f"c{self._count}", WORKER.get())
        near, far = _End(self, sock, secure), _End(self, None, secure=True)
        near.join(far, protocol)
        far.join(near, server)
        server.connection_made(far)
        protocol.connection_made(near)
        if sock is not None:
            self._sockets.append(sock)
        return near, protocol

    def note_request(self, task: asyncio.Task[Any] | None) -> None:
        """A client is about to ask for something: what limits its time is about a request from now on."""
        self._waiter.world.patience.note_request(task)

    def close(self) -> None:
        """Close the sockets that clients have passed in: a killed worker did not close its own."""
        for sock in (*self._sockets, *self._connected):
            sock.close()
        self._clients.clear()


class _Socket:
    """The socket that a server's connection sees. It has only what a server calls before it resets a connection."""

    def setsockopt(self, *options: object) -> None:
        """Do nothing: here an abort already resets the connection."""

    def getpeername(self) -> tuple[str, int]:
        """The address of the other end."""
        return (f"{_PREFIX}1", 443)


class _End(asyncio.Transport):
    """One end of a connection in memory. Data from the other end is queued here, so that it arrives in order."""

    def __init__(self, network: Network, sock: socket.socket | None, secure: Any) -> None:
        extra = {"peername": (f"{_PREFIX}1", 443), "sockname": ("127.0.0.1", 0), "socket": sock or _Socket()}
        super().__init__({**extra, "sslcontext": secure} if secure else extra)
        self._network = network
        self._loop = network.loop
        self._sock = sock
        self._secure = bool(secure)
        self._closing = False
        self._eof = False
        self._paused = False
        self._inbox: deque[tuple[bytes | Exception | None, str | None, asyncio.Task[Any] | None]] = deque()
        self._peer: _End
        self._protocol: Any

    def join(self, peer: _End, protocol: asyncio.BaseProtocol) -> None:
        """Connect this end with ``peer``; ``protocol`` receives its data."""
        self._peer = peer
        self._protocol = protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and data:
            self._peer.post(bytes(data))

    def post(self, item: bytes | Exception | None) -> None:
        """Take from the other end data, an error (it has reset the connection) or ``None`` (it sends no more)."""
        task = asyncio.current_task(self._loop)
        self._network.note_request(task)
        self._inbox.append((item, WORKER.get(), task))
        self._loop.call_soon(self._take)

    def _take(self) -> None:
        if self._closing or self._paused or not self._inbox:
            return
        item, worker, task = self._inbox.popleft()
        if isinstance(item, bytes):
            if isinstance(self._protocol, Connection):
                self._protocol.worker = worker
                self._network.asking = task
            self._protocol.data_received(item)
        else:
            self._lose(item)

    def close(self) -> None:
        self._finish(None)

    def abort(self) -> None:
        self._finish(ConnectionResetError(ECONNRESET, strerror(ECONNRESET)))

    def _finish(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._peer.post(error)
            self._end(None)

    def _lose(self, error: Exception | None) -> None:
        """Called when the other end has closed or reset the connection."""
        if error is None and not self._eof:
            self._eof = True
            if self._protocol.eof_received():
                return
        if not self._closing:
            self._closing = True
            self._peer.post(None)
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self._sock is not None:
            self._sock.close()
        self._loop.call_soon(self._protocol.connection_lost, error)

    def write_eof(self) -> None:
        self._peer.post(None)

    def can_write_eof(self) -> bool:
        return not self._secure

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            for _ in self._inbox:
                self._loop.call_soon(self._take)

    def is_reading(self) -> bool:
        return not self._paused

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (0, 0)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: no data is ever buffered."""
