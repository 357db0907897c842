"""The loopback server that all runs of a search share: to start one for each would take longer than the run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.server import Server
    from fake_server.transports.loopback.host import Namer
    from fake_server.transports.sockets import SocketServer
    from pytest_claude_tokens.handle.runtime import Outside

__all__ = ["SearchListener"]


class SearchListener:
    """Lends one server to one run after the other; it is started for the first run that asks for it."""

    def __init__(self) -> None:
        self._sockets: SocketServer | None = None

    def lend(self, server: Server, namer: Namer, start: Callable[[], SocketServer], outside: Outside) -> SocketServer:
        """The server, which serves ``server`` until that is given back. What takes time is done ``outside``."""
        if self._sockets is None:
            self._sockets = outside(start)
        elif self._sockets.connections:  # somebody has come too late, or between two runs
            outside(partial(self._sockets.serve, server, namer))
        else:
            self._sockets.serve(server, namer)
        return self._sockets

    def give_back(self, server: Server) -> None:
        """The run of ``server`` is over: nobody is connected to it any more."""
        assert self._sockets is not None
        self._sockets.serve(server, None)

    def is_own(self, port: int) -> bool:
        """Whether it listens at that port."""
        return self._sockets is not None and port == self._sockets.port

    def close(self) -> None:
        """The search is over."""
        if self._sockets is not None:
            self._sockets.stop()
            self._sockets = None
