"""The local endpoints of one service, for other processes, and the folders that these need.

Each is created at the first access.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Self

from fake_server.genuine import os
from pytest_claude_tokens.guard import audit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fake_server.server import Server
    from fake_server.transports.loopback.host import Namer, WaitHook
    from fake_server.transports.proxy import ProxyServer
    from fake_server.transports.sockets import SocketServer

__all__ = ["LocalEndpoints"]


class LocalEndpoints:
    """The loopback server, the proxy and the folder of one handle; all are removed at the end."""

    def __init__(
        self, server: Server, hosts: Iterable[str], wait_hook: WaitHook | None = None, namer: Namer | None = None
    ) -> None:
        self._server = server
        self._wait_hook = wait_hook
        self._namer = namer
        self._hosts = tuple(hosts)
        self._lock = RLock()
        self._undo: ExitStack | None = None
        self._sockets: SocketServer | None = None
        self._proxy: ProxyServer | None = None
        self.made: Path | None = None

    def __enter__(self) -> Self:
        self._undo = ExitStack()
        return self

    def __exit__(self, *exc: object) -> None:
        undo, self._undo = self._opened(), None
        undo.close()

    @property
    def url(self) -> str:
        """The URL of the loopback server."""
        with self._lock, audit.muted():
            undo = self._opened()
            if self._sockets is None:
                from fake_server.transports.sockets import SocketServer

                self._sockets = SocketServer(
                    self._server, hosts=self._hosts, wait_hook=self._wait_hook, namer=self._namer
                )
                self._sockets.start()
                undo.callback(self._sockets.stop)
            return self._sockets.url

    @property
    def proxy(self) -> ProxyServer | None:
        """The proxy that terminates TLS, started at the first access; ``None`` without the extra ``proxy``."""
        with self._lock, audit.muted():
            undo = self._opened()
            if self._proxy is None:
                from fake_server.transports.proxy import ProxyServer, available

                assert self.url  # starts the server: the proxy grants tunnels to that loopback address
                assert self._sockets is not None
                if not available():
                    self._sockets.stand_in()
                    return None
                self._proxy = ProxyServer(
                    self._server,
                    self.folder,
                    own=self._sockets,
                    hosts=self._hosts,
                    wait_hook=self._wait_hook,
                    namer=self._namer,
                )
                self._proxy.start()
                undo.callback(self._proxy.stop)
            return self._proxy

    @property
    def folder(self) -> Path:
        """A folder readable by its owner only."""
        with self._lock, audit.muted():
            undo = self._opened()
            if self.made is None:
                self.made = Path(tempfile.mkdtemp(prefix="claude-tokens-")).resolve()
                undo.callback(shutil.rmtree, self.made, ignore_errors=True)
            return self.made

    def home(self, worker: str | None) -> Path:
        """The scratch ``HOME`` of a worker, always the same one; workers without a name share one."""
        name = "nobody" if worker is None else f"of-{re.sub(r'[^0-9A-Za-z_-]', '_', worker)}"
        home = self.folder / "home" / name
        with audit.muted():
            os.makedirs(home, mode=0o700, exist_ok=True)
        return home

    def _opened(self) -> ExitStack:
        if self._undo is None:
            raise RuntimeError("this ClaudeTokens is not open: use it in a with statement")
        return self._undo
