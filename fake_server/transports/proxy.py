"""The service under the real host names, over TLS, for clients that insist on them.

A client whose ``HTTPS_PROXY`` points here, and which trusts the certificate in ``ca_file``, asks for a tunnel to a
known host. The tunnel ends at the fake, and nothing is ever forwarded. The certificate is created for one proxy, kept
in a folder, and never installed.
"""

from __future__ import annotations

import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fake_server.genuine import asyncio
from fake_server.hosts import is_loopback
from fake_server.transports.loopback.connection import Connection
from fake_server.transports.loopback.http1 import Message, Parser, Refusal, hostname_of, proxy_user
from fake_server.transports.loopback.listener import Listener

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from fake_server.server import Server
    from fake_server.transports.loopback.host import Host, WaitHook

__all__ = ["ProxyServer", "available"]

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TLS_HANDSHAKE_TIMEOUT_SECONDS = 10.0
_TLS_SHUTDOWN_TIMEOUT_SECONDS = 1.0
"""Seconds within which a client must answer the end of its TLS session."""


def available() -> bool:
    """Whether the extra ``proxy`` is installed."""
    return find_spec("trustme") is not None


class ProxyServer(Listener):
    """A ``CONNECT`` proxy that terminates each tunnel itself.

    The certificate that clients must trust is written to ``folder`` as ``ca.pem``. ``own`` is the plain server of the
    same service, the only loopback address to which a tunnel is granted. All other tunnels, except to known hosts, are
    refused. Raises ``ModuleNotFoundError`` without the extra ``proxy``.
    """

    prefix = "p"

    def __init__(
        self,
        server: Server,
        folder: str | os.PathLike[str],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        own: Listener | None = None,
        hosts: Iterable[str] = (),
        wait_hook: WaitHook | None = None,
    ) -> None:
        super().__init__(server, host, port, hosts=hosts, wait_hook=wait_hook)
        import trustme

        authority = trustme.CA(organization_name="fake Claude token service, for tests only")
        ca_file = Path(folder) / "ca.pem"
        authority.cert_pem.write_to_path(ca_file)
        self.ca_file: str = str(ca_file)
        self.own = own
        self.tls: ssl.SSLContext = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.set_alpn_protocols(["http/1.1"])
        authority.issue_cert(*self.hosts).configure_cert(self.tls)

    def accept(self) -> Connection:
        return _ProxyConnection(self, self.next_name())

    def grants(self, host: str, port: int | None) -> bool:
        """Whether a tunnel to that address is granted: to a known host, which this proxy answers for, or to ``own``."""
        if is_loopback(host):
            return self.own is not None and port == self.own.port
        return host in self.hosts and port in (80, 443)


class _ProxyConnection(Connection):
    """A connection to the proxy: it serves plain requests until it becomes a tunnel."""

    listener: ProxyServer
    _securing: asyncio.Task[None]

    def connect(self, message: Message) -> None:
        try:
            host, port = hostname_of(message.target)
        except ValueError:
            self.refuse(Refusal(400, "this is not a host and a port"))
            return
        if not self.listener.grants(host, port):
            super().connect(message)
            return
        self.worker = proxy_user(message) or self.worker
        self.transport.write(_ESTABLISHED)
        if port == 443:
            self._securing = self.listener.loop.create_task(self._secure())
        else:
            self.parser = Parser()

    async def _secure(self) -> None:
        """Hand the connection over to the TLS session inside the tunnel; a failed handshake ends the connection."""
        inside = _TunnelConnection(self.listener, self.name, self.worker)
        try:
            transport = await self.listener.loop.start_tls(
                self.transport,
                inside,
                self.listener.tls,
                server_side=True,
                ssl_handshake_timeout=_TLS_HANDSHAKE_TIMEOUT_SECONDS,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_TIMEOUT_SECONDS,
            )
        except OSError:
            return
        finally:
            self.listener.connections.discard(self)
        if transport is not None and not inside.over:
            inside.connection_made(transport)


class _TunnelConnection(Connection):
    """A connection inside a tunnel. Data received before :meth:`connection_made` is buffered."""

    def __init__(self, listener: Host, name: str, worker: str | None) -> None:
        super().__init__(listener, name, worker)
        self._early: bytes | None = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        early, self._early = self._early, None
        if early:
            super().data_received(early)

    def data_received(self, data: bytes) -> None:
        if self._early is None:
            super().data_received(data)
        else:
            self._early += data
