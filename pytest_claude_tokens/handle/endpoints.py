"""The local endpoints of one service, for other processes, and the folders that those need.

Each is made when it is first asked for.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Self

from pytest_claude_tokens.guard import audit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fake_server.server import Server
    from fake_server.transports.loopback.host import WaitHook
    from fake_server.transports.proxy import ProxyServer
    from fake_server.transports.sockets import SocketServer

__all__ = ["LocalEndpoints"]


class LocalEndpoints:
    """The loopback server, the proxy and the folder of one handle; what was made is undone at the end."""

    def __init__(self, server: Server, hosts: Iterable[str], pace: WaitHook | None = None) -> None:
        self._server = server
        self._pace = pace
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
        """Of the loopback server."""
        with self._lock, audit.muted():
            undo = self._opened()
            if self._sockets is None:
                from fake_server.transports.sockets import SocketServer

                self._sockets = SocketServer(self._server, hosts=self._hosts, wait_hook=self._pace)
                self._sockets.start()
                undo.callback(self._sockets.stop)
            return self._sockets.url

    @property
    def proxy(self) -> ProxyServer | None:
        """The proxy that terminates TLS, started when first asked for; ``None`` where its extra is missing."""
        with self._lock, audit.muted():
            undo = self._opened()
            if self._proxy is None:
                from fake_server.transports.proxy import ProxyServer, available

                if not available():
                    return None
                assert self.url  # the one loopback address to which it grants a tunnel
                self._proxy = ProxyServer(
                    self._server, self.folder, own=self._sockets, hosts=self._hosts, wait_hook=self._pace
                )
                self._proxy.start()
                undo.callback(self._proxy.stop)
            return self._proxy

    @property
    def folder(self) -> Path:
        """A folder for its owner only."""
        with self._lock, audit.muted():
            undo = self._opened()
            if self.made is None:
                self.made = Path(tempfile.mkdtemp(prefix="claude-tokens-")).resolve()
                undo.callback(shutil.rmtree, self.made, ignore_errors=True)
            return self.made

    def home(self, worker: str | None) -> Path:
        """The scratch ``HOME`` of a worker, always the same one; of all that have no name, too."""
        name = "nobody" if worker is None else f"of-{re.sub(r'[^0-9A-Za-z_-]', '_', worker)}"
        home = self.folder / "home" / name
        with audit.muted():
            os.makedirs(home, mode=0o700, exist_ok=True)
        return home

    def _opened(self) -> ExitStack:
        if self._undo is None:
            raise RuntimeError("this ClaudeTokens is not open: use it in a with statement")
        return self._undo
