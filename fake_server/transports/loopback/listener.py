"""A server on loopback: one thread, one event loop, any number of connections."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Self

from fake_server.clock import stopwatch
from fake_server.genuine import asyncio, socket, threading
from fake_server.hosts import KNOWN_HOSTS, LISTENING_PORTS, NAME_IT, Hosts, canonical, hosts_of, is_loopback
from fake_server.protocol.actors import actor_of
from fake_server.transports.loopback.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fake_server.effects import Wait
    from fake_server.exchange import Exchange
    from fake_server.protocol.wire import Request
    from fake_server.server import Server
    from fake_server.transports.loopback.host import Accepted, Local, LocalHandler, Namer, WaitHook

__all__ = ["Listener", "check_host"]

_BACKLOG_LIMIT = 1024
"""Connections that may wait to be accepted, so that a burst of hundreds loses none."""

_DRAIN_POLL_INTERVAL_SECONDS = 0.005
"""Between two checks whether all open requests have ended."""


def check_host(host: str) -> str:
    """The loopback address of ``host``. Raises ``ValueError`` if it is not loopback."""
    if not is_loopback(host):
        raise ValueError(f"cannot listen on {host or 'all addresses'}: a fake service is bound to loopback only")
    name = canonical(host)
    return "127.0.0.1" if name == "localhost" else name


class RealTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time runs on while a test has frozen the time."""

    def __init__(self) -> None:
        super().__init__()
        self._stopwatch = stopwatch()

    def time(self) -> float:
        return self._stopwatch()


class Listener:
    """Serves ``server`` on a loopback address; ``port`` 0 takes a free port.

    ``hosts`` are host names to answer for besides the known ones. ``wait_hook`` may replace each wait of an exchange,
    in the thread of the event loop, by which a schedule controls the order. ``local_handler`` answers requests that are
    not for the service. ``namer`` says which worker sent a request; by default it is known by the request itself, or by
    its connection.
    """

    prefix = "c"
    """Prefix of the connections' names: ``c1``, ``c2``, … in the order in which they were accepted."""
    remedy: str = NAME_IT

    def __init__(
        self,
        server: Server,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        hosts: Iterable[str] = (),
        wait_hook: WaitHook | None = None,
        local_handler: LocalHandler | None = None,
        namer: Namer | None = None,
    ) -> None:
        self.server = server
        self.host: str = check_host(host)
        self.port: int = port
        self.hosts: Hosts = hosts_of((*KNOWN_HOSTS, *hosts))
        self.connections: set[Accepted] = set()
        self.loop: asyncio.AbstractEventLoop
        self._wait_hook = wait_hook
        self._local_handler = local_handler
        self._namer = namer
        self._names = count(1)
        self._grace = 0.0
        self.draining: bool = False
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Listen; when this returns, connections are answered. Raises ``OSError`` if the port is taken."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.host, self.port))
            listening.listen(_BACKLOG_LIMIT)
        except OSError:
            listening.close()
            raise
        self.port = listening.getsockname()[1]
        LISTENING_PORTS.add(self.port)
        self.loop = RealTimeLoop()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="fake-server", daemon=True)
        self._thread.start()

    def stop(self, grace: float = 0.0) -> None:
        """Close every connection, abandon open requests, and join the thread. A second call does nothing.

        Open requests have ``grace`` seconds to end by themselves; meanwhile, no new ones are accepted.
        """
        if self._thread is not None:
            self._grace = grace
            self.call(self._stopping.set)
            self._thread.join()
            self._thread = None
            LISTENING_PORTS.discard(self.port)

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Run ``function`` in the loop's thread, from any thread; does nothing if the loop has ended."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    # Called by connections.

    def answers(self, host: str, port: int | None) -> bool:
        """Whether requests for that host and port are answered here."""
        return is_loopback(host) or self.hosts.match(host, port)

    def wait_hook(self, exchange: Exchange, wait: Wait) -> Wait:
        """The wait that ``exchange`` must perform in place of ``wait``."""
        return wait if self._wait_hook is None else self._wait_hook(exchange, wait)

    def actor(self, request: Request, connection: Accepted) -> str:
        """The worker that sent ``request``."""
        if self._namer is None:
            return actor_of(request, connection.name)
        ends = [connection.transport.get_extra_info(end) for end in ("peername", "sockname")]
        return self._namer(request, connection.name, *ends)

    def local(self, request: Request) -> Local | None:
        """The reply to a request that is not for the service; ``None`` for any other."""
        return None if self._local_handler is None else self._local_handler(request)

    def accept(self) -> Connection:
        """A new connection."""
        return Connection(self, self.next_name())

    def next_name(self) -> str:
        """The name of the next connection."""
        return f"{self.prefix}{next(self._names)}"

    def _is_busy(self) -> bool:
        return any(one.busy or one.transport.get_write_buffer_size() for one in self.connections)

    # The thread.

    def _run(self, listening: socket.socket) -> None:
        try:
            self.loop.run_until_complete(self._serve(listening))
        finally:
            self.loop.close()

    async def _serve(self, listening: socket.socket) -> None:
        server = await self.loop.create_server(self.accept, sock=listening, backlog=_BACKLOG_LIMIT)
        await self._stopping.wait()
        self.loop.remove_reader(listening)  # a closed asyncio server would fail connections that are half accepted
        self.draining = True
        deadline = self.loop.time() + self._grace
        while self._is_busy() and self.loop.time() < deadline:
            await asyncio.sleep(_DRAIN_POLL_INTERVAL_SECONDS)
        while self.connections or len(asyncio.all_tasks()) > 1:
            for connection in list(self.connections):
                connection.leave("server stopped")
                connection.transport.abort()
            await asyncio.sleep(0)
        server.close()
