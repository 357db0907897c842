"""The service under the real host names, over TLS, for clients that insist on them.

A client whose ``HTTPS_PROXY`` points here, and which trusts the certificate in ``ca_file``, asks for a tunnel to a
known host. The tunnel ends at the fake, and nothing is ever forwarded. The certificate is created for one process, kept
in a folder, and never installed.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fake_server.clock import thawed
from fake_server.genuine import asyncio, os, socket
from fake_server.hosts import KNOWN_HOSTS, canonical, hosts_of, is_loopback
from fake_server.transports.loopback.connection import Connection
from fake_server.transports.loopback.http1 import Message, Parser, hostname_of, proxy_user
from fake_server.transports.loopback.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Iterable

    import trustme

    from fake_server.server import Server
    from fake_server.transports.loopback.host import Host, Namer, WaitHook

__all__ = ["ProxyServer", "available"]

_REAL = hosts_of(KNOWN_HOSTS)
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TLS_HANDSHAKE = b"\x16"
"""The first byte of a TLS session: the content type of a handshake (RFC 8446 section 5.1)."""
_TLS_HANDSHAKE_TIMEOUT_SECONDS = 10.0
_TLS_SHUTDOWN_TIMEOUT_SECONDS = 1.0
"""Seconds within which a client must answer the end of its TLS session."""


def available() -> bool:
    """Whether the extra ``proxy`` is installed."""
    return find_spec("trustme") is not None


class ProxyServer(Listener):
    """A ``CONNECT`` proxy that terminates each tunnel itself.

    The certificate that clients must trust is written to ``folder`` as ``ca.pem``. ``own`` is the plain server of the
    same service, the only loopback address to which a tunnel is granted. Requests by plain http are answered in
    absolute form. All that is for another host is refused, and journalled. Raises ``ModuleNotFoundError`` without the
    extra ``proxy``.
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
        namer: Namer | None = None,
    ) -> None:
        super().__init__(server, host, port, hosts=hosts, wait_hook=wait_hook, namer=namer)
        ca_file = Path(folder) / "ca.pem"
        _authority().cert_pem.write_to_path(ca_file)
        self.ca_file: str = str(ca_file)
        self.own = own
        self._common = _context(*self.hosts.names)

    def accept(self) -> Connection:
        return _ProxyConnection(self, self.next_name())

    def answers(self, host: str, port: int | None) -> bool:
        """Whether we answer for that address: a host of the service, or ``own``, and no other loopback address."""
        ours = self.own is not None and port == self.own.port and is_loopback(host)
        return ours or self.hosts.match(host, port)

    def grants(self, host: str, port: int | None) -> bool:
        """Whether a tunnel to that address is granted: we answer there, and at the real hosts only at HTTP's ports."""
        if port is None or (port not in (80, 443) and _REAL.match(host)):
            return False
        return self.answers(host, port)

    def tls_for(self, host: str) -> ssl.SSLContext:
        """The TLS settings for a tunnel to ``host``, with a certificate that names it."""
        name = canonical(host)
        if name in self.hosts.names or "_" in name:
            return self._common
        return _context(name)  # a certificate for `*.example.com` is not valid for `a.b.example.com`


@lru_cache(maxsize=1)
def _authority() -> trustme.CA:
    """The authority of all proxies of this process. Its key never leaves it."""
    with thawed():
        import trustme

        return trustme.CA(organization_name="fake Claude token service, for tests only")


@lru_cache(maxsize=256)
def _context(*names: str) -> ssl.SSLContext:
    """The TLS settings with a certificate for these names: made once in a process, for all runs of a search."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    with thawed():
        # A certificate names no host with an underscore (RFC 5280 section 4.2.1.6): such a one is served without TLS.
        _authority().issue_cert(*(name for name in names if "_" not in name)).configure_cert(context)
    return context


class _ProxyConnection(Connection):
    """A connection to the proxy: it serves plain requests until it becomes a tunnel.

    A tunnel leads to any port, so its first byte tells whether TLS is spoken in it.
    """

    listener: ProxyServer
    _securing: asyncio.Task[None]
    _peeking: socket.socket | None = None

    def connect(self, message: Message) -> None:
        try:
            host, port = hostname_of(message.target)
            granted = self.listener.grants(host, port)
        except ValueError:
            granted = False
        if not granted:
            super().connect(message)
            return
        self.worker = proxy_user(message) or self.worker
        self._tls = self.listener.tls_for(host)
        # Read from a second descriptor, and without taking anything: TLS has to begin with the first byte.
        self._peeking = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        self.listener.loop.add_reader(self._peeking, self._begin_tunnel)
        self.transport.write(_ESTABLISHED)

    def _pump(self) -> None:
        super()._pump()
        if self._peeking is not None:
            self.transport.pause_reading()

    def _begin_tunnel(self) -> None:
        assert self._peeking is not None
        try:
            first = self._peeking.recv(1, socket.MSG_PEEK)
        except OSError:  # a reset: the transport will see it, too
            first = b""
        self._stop_peeking()
        if first == _TLS_HANDSHAKE:
            self._securing = self.listener.loop.create_task(self._secure())
        else:
            self.parser = Parser()
            self.transport.resume_reading()

    def _stop_peeking(self) -> None:
        if self._peeking is not None:
            self.listener.loop.remove_reader(self._peeking)
            self._peeking.close()
            self._peeking = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_peeking()
        super().connection_lost(exc)

    async def _secure(self) -> None:
        """Hand the connection over to the TLS session inside the tunnel; a failed handshake ends the connection."""
        inside = _TunnelConnection(self.listener, self.name, self.worker)
        try:
            transport = await self.listener.loop.start_tls(
                self.transport,
                inside,
                self._tls,
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
