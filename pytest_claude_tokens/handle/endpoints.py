"""The local endpoints of one service, for other processes, and the folders that these need.

Each is created at the first access.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Self

from fake_server.genuine import os
from pytest_claude_tokens.guard import audit
from pytest_claude_tokens.processes.forks import WorkerProcesses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fake_server.server import Server
    from fake_server.transports.proxy import ProxyServer
    from fake_server.transports.sockets import SocketServer
    from pytest_claude_tokens.handle.runtime import Runtime

__all__ = ["LocalEndpoints"]


class LocalEndpoints:
    """The loopback server, the proxy and the folder of one handle; all are removed at the end."""

    def __init__(self, server: Server, hosts: Iterable[str], runtime: Runtime) -> None:
        self._server = server
        self._outside = runtime.outside
        self._lender = runtime.lender
        namer = runtime.namer or WorkerProcesses()
        self._options: dict[str, Any] = {"hosts": tuple(hosts), "wait_hook": runtime.wait_hook, "namer": namer}
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
                if self._lender is None:
                    self._sockets = self._outside(self._start_sockets)
                    undo.callback(self._sockets.stop)
                else:
                    lend, namer = self._lender.lend, self._options["namer"]
                    self._sockets = lend(self._server, namer, self._start_sockets, self._outside)
                    undo.callback(self._lender.give_back, self._server)
            return self._sockets.url

    @property
    def proxy(self) -> ProxyServer | None:
        """The proxy that terminates TLS, started at the first access; ``None`` without the extra ``proxy``."""
        with self._lock, audit.muted():
            undo = self._opened()
            if self._proxy is None:
                assert self.url  # starts the server: the proxy grants tunnels to that loopback address
                assert self._sockets is not None
                self._proxy = self._outside(partial(self._start_proxy, self._sockets, self.folder))
                if self._proxy is None:
                    self._sockets.stand_in()
                    return None
                undo.callback(self._proxy.stop)
            return self._proxy

    def is_proxy(self, port: int) -> bool:
        """Whether the proxy listens at that port."""
        return self._proxy is not None and port == self._proxy.port

    @property
    def folder(self) -> Path:
        """A folder readable by its owner only."""
        with self._lock, audit.muted():
            undo = self._opened()
            if self.made is None:
                self.made = Path(tempfile.mkdtemp(prefix="claude-tokens.")).resolve()
                undo.callback(shutil.rmtree, self.made, ignore_errors=True)
            return self.made

    def home(self, worker: str | None) -> Path:
        """The scratch ``HOME`` of a worker, always the same one; workers without a name share one."""
        name = "nobody" if worker is None else f"of-{re.sub(r'[^0-9A-Za-z_-]', '_', worker)}"
        home = self.folder / "home" / name
        with audit.muted():
            os.makedirs(home, mode=0o700, exist_ok=True)
        return home

    # In a search these two run in a thread of no world, which must not take the lock that the caller holds.

    def _start_sockets(self) -> SocketServer:
        from fake_server.transports.sockets import SocketServer

        with audit.muted():
            started = SocketServer(self._server, **self._options)
            started.start()
            return started

    def _start_proxy(self, own: SocketServer, folder: Path) -> ProxyServer | None:
        from fake_server.transports.proxy import ProxyServer, available

        with audit.muted():
            if not available():
                return None
            started = ProxyServer(self._server, folder, own=own, **self._options)
            started.start()
            return started

    def _opened(self) -> ExitStack:
        if self._undo is None:
            raise RuntimeError("this ClaudeTokens is not open: use it in a with statement")
        return self._undo
