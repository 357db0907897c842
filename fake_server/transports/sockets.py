"""The service on a loopback port, for clients in other processes and in other languages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_server.genuine import threading
from fake_server.transports.loopback.host import Local
from fake_server.transports.loopback.listener import Listener

if TYPE_CHECKING:
    from fake_server.server import Server
    from fake_server.transports.loopback.host import Namer

__all__ = ["Local", "SocketServer"]


class SocketServer(Listener):
    """The service at ``http://127.0.0.1:PORT``.

    It answers requests in origin form, and in absolute form from clients that use it as their proxy; each ``CONNECT``
    is refused, so that no request leaves the machine.
    """

    _stands_in = False

    def stand_in(self) -> None:
        """From now on refuse what a proxy is asked for: variables name this server, as the proxy's extra is missing."""
        self._stands_in = True
        self.remedy = 'the proxy needs an extra: pip install "pytest-claude-tokens[proxy]"'

    def serve(self, server: Server, namer: Namer | None) -> None:
        """From now on serve ``server``. Connections of the one before are dropped when this returns."""
        if self.connections:
            dropped = threading.Event()
            self.call(self._drop, dropped)
            dropped.wait()
        self.server: Server = server
        self._namer = namer

    def _drop(self, dropped: threading.Event) -> None:
        for connection in list(self.connections):
            connection.leave("server stopped")
            connection.transport.abort()
        self.connections.clear()
        dropped.set()

    def answers(self, host: str, port: int | None) -> bool:
        return not self._stands_in and super().answers(host, port)
