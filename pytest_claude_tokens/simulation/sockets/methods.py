"""The methods of ``socket.socket`` and the look-ups of names, as threads of a world find them.

They are patched on the class itself, so that no stand-in is left behind anywhere; a socket that was not connected in
memory goes on with the real ones.
"""

from __future__ import annotations

from errno import EISCONN
from os import strerror
from typing import TYPE_CHECKING, Any

from fake_server.genuine import socket
from fake_server.transports.inprocess import running_trio
from pytest_claude_tokens.guard.hosts import GUARDED
from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.internals import CLOSE_SOCKET
from pytest_claude_tokens.simulation.sockets.tls import pretend
from pytest_claude_tokens.simulation.sockets.wire import find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LOOK_UPS", "methods"]

_OWN_ADDRESS = ("192.0.2.254", 49152)
"""The client's own address in the simulated network."""
_HINTS = ("family", "type", "proto", "flags")
"""The further parameters of ``socket.getaddrinfo``."""


# --- look-ups -----------------------------------------------------------------------------------------------------


def _address_of(host: Any, port: Any) -> tuple[str, int] | None:
    """The simulated address of ``host`` and the number of its port, if a thread of a world asks for a host of ours."""
    place = here()
    if place is None or place[0].wires is None or not isinstance(host, str | bytes) or running_trio() is not None:
        return None
    if isinstance(port, str | bytes) and port:
        text = port.decode("ascii", "replace") if isinstance(port, bytes) else port
        port = int(text) if text.isdigit() else socket.getservbyname(text)
    address = place[0].wires.network.address_of(host, port or None)
    return None if address is None else (address, int(port or 0))


def _getaddrinfo(module: object, host: Any, port: Any, *args: int, **named: int) -> list[Any]:
    """As ``socket.getaddrinfo``."""
    found = _address_of(host, port)
    if found is None:
        return socket.getaddrinfo(host, port, *args, **named)
    hints = {**dict.fromkeys(_HINTS, 0), **dict(zip(_HINTS, args, strict=False)), **named}
    if hints["family"] not in (socket.AF_UNSPEC, socket.AF_INET):
        raise socket.gaierror(socket.EAI_FAMILY, "the simulated network has no address of this family")
    kind = socket.SocketKind(hints["type"] or socket.SOCK_STREAM)
    name = host if isinstance(host, str) else host.decode("ascii", "replace")
    canonical = name if hints["flags"] & socket.AI_CANONNAME else ""
    return [(socket.AF_INET, kind, hints["proto"] or socket.IPPROTO_TCP, canonical, found)]


def _gethostbyname(module: object, hostname: Any) -> str:
    """As ``socket.gethostbyname``."""
    found = _address_of(hostname, None)
    return str(socket.gethostbyname(hostname)) if found is None else found[0]


def _gethostbyname_ex(module: object, hostname: Any) -> tuple[str, list[str], list[str]]:
    """As ``socket.gethostbyname_ex``."""
    found = _address_of(hostname, None)
    return socket.gethostbyname_ex(hostname) if found is None else (hostname, [], [found[0]])


LOOK_UPS: list[tuple[Any, Any]] = [
    (socket.getaddrinfo, _getaddrinfo),
    (socket.gethostbyname, _gethostbyname),
    (socket.gethostbyname_ex, _gethostbyname_ex),
]
"""Each function with what stands for it; the first argument is the module in which it is found."""


# --- methods ------------------------------------------------------------------------------------------------------


def _connect(real: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: Any, address: Any) -> Any:
        if not _connected(self, address):
            return real(self, address)
        return None

    return connect


def _connect_ex(real: Callable[..., Any]) -> Callable[..., Any]:
    def connect_ex(self: Any, address: Any) -> Any:
        try:
            return 0 if _connected(self, address) else real(self, address)
        except ConnectionRefusedError as error:
            return error.errno

    return connect_ex


def _connected(sock: Any, address: Any) -> bool:
    """Connect in memory, where a thread of a world connects to a host of ours."""
    place = here()
    if place is None or place[0].wires is None or not isinstance(address, tuple) or len(address) < 2:
        return False
    host, port = address[:2]
    if not isinstance(host, str | bytes) or not isinstance(port, int) or sock.type != socket.SOCK_STREAM:
        return False
    if running_trio() is not None:  # it keeps the sockets' real methods
        return False
    if find(sock) is not None:
        raise OSError(EISCONN, strerror(EISCONN))
    if not place[0].wires.connect(sock, host, port):
        return False
    pretend(sock)
    return True


def _send(real: Callable[..., Any]) -> Callable[..., Any]:
    def send(self: Any, data: Any, flags: int = 0) -> Any:
        wire = find(self)
        return real(self, data, flags) if wire is None else wire.send(data, self.gettimeout())

    return send


def _sendall(real: Callable[..., Any]) -> Callable[..., Any]:
    def sendall(self: Any, data: Any, flags: int = 0) -> Any:
        wire = find(self)
        if wire is None:
            return real(self, data, flags)
        wire.send(data, self.gettimeout())
        return None

    return sendall


def _sendto(real: Callable[..., Any]) -> Callable[..., Any]:
    def sendto(self: Any, data: Any, *args: Any) -> Any:
        wire = find(self)
        return real(self, data, *args) if wire is None else wire.send(data, self.gettimeout())

    return sendto


def _sendmsg(real: Callable[..., Any]) -> Callable[..., Any]:
    def sendmsg(self: Any, buffers: Any, *args: Any) -> Any:
        wire = find(self)
        if wire is None:
            return real(self, buffers, *args)
        return wire.send(b"".join(bytes(buffer) for buffer in buffers), self.gettimeout())

    return sendmsg


def _sendfile(real: Callable[..., Any]) -> Callable[..., Any]:
    def sendfile(self: Any, file: Any, offset: int = 0, count: int | None = None) -> Any:
        wire = find(self)
        if wire is None:
            return real(self, file, offset, count)
        file.seek(offset)
        return wire.send(file.read(-1 if count is None else count), self.gettimeout())

    return sendfile


def _recv(real: Callable[..., Any]) -> Callable[..., Any]:
    def recv(self: Any, bufsize: int, flags: int = 0) -> Any:
        wire = find(self)
        return real(self, bufsize, flags) if wire is None else wire.read(bufsize, flags, self.gettimeout())

    return recv


def _recvfrom(real: Callable[..., Any]) -> Callable[..., Any]:
    def recvfrom(self: Any, bufsize: int, flags: int = 0) -> Any:
        wire = find(self)
        return real(self, bufsize, flags) if wire is None else (wire.read(bufsize, flags, self.gettimeout()), None)

    return recvfrom


def _recv_into(real: Callable[..., Any]) -> Callable[..., Any]:
    def recv_into(self: Any, buffer: Any, nbytes: int = 0, flags: int = 0) -> Any:
        wire = find(self)
        return real(self, buffer, nbytes, flags) if wire is None else _fill(self, wire, buffer, nbytes, flags)

    return recv_into


def _recvfrom_into(real: Callable[..., Any]) -> Callable[..., Any]:
    def recvfrom_into(self: Any, buffer: Any, nbytes: int = 0, flags: int = 0) -> Any:
        wire = find(self)
        if wire is None:
            return real(self, buffer, nbytes, flags)
        return _fill(self, wire, buffer, nbytes, flags), None

    return recvfrom_into


def _recvmsg(real: Callable[..., Any]) -> Callable[..., Any]:
    def recvmsg(self: Any, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> Any:
        wire = find(self)
        if wire is None:
            return real(self, bufsize, ancbufsize, flags)
        return wire.read(bufsize, flags, self.gettimeout()), [], 0, None

    return recvmsg


def _fill(sock: Any, wire: Any, buffer: Any, nbytes: int, flags: int) -> int:
    view = memoryview(buffer).cast("B")
    data = wire.read(nbytes or len(view), flags, sock.gettimeout())
    view[: len(data)] = data
    return len(data)


def _shutdown(real: Callable[..., Any]) -> Callable[..., Any]:
    def shutdown(self: Any, how: int) -> Any:
        wire = find(self)
        return real(self, how) if wire is None else wire.shut_down(how)

    return shutdown


def _getpeername(real: Callable[..., Any]) -> Callable[..., Any]:
    def getpeername(self: Any) -> Any:
        wire = find(self)
        return real(self) if wire is None else wire.address

    return getpeername


def _getsockname(real: Callable[..., Any]) -> Callable[..., Any]:
    def getsockname(self: Any) -> Any:
        return real(self) if find(self) is None else _OWN_ADDRESS

    return getsockname


def _detach(real: Callable[..., Any]) -> Callable[..., Any]:
    def detach(self: Any) -> Any:
        wire = find(self)
        if wire is not None:
            wire.disown()
        return real(self)

    return detach


def _close(real: Callable[..., Any]) -> Callable[..., Any]:
    def close(self: Any, *args: Any) -> Any:
        wire = find(self)
        if wire is not None:
            wire.hang_up()
        return real(self, *args)

    return close


_METHODS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "connect": _connect,
    "connect_ex": _connect_ex,
    "send": _send,
    "sendall": _sendall,
    "sendto": _sendto,
    "sendmsg": _sendmsg,
    "sendfile": _sendfile,
    "recv": _recv,
    "recvfrom": _recvfrom,
    "recv_into": _recv_into,
    "recvfrom_into": _recvfrom_into,
    "recvmsg": _recvmsg,
    "shutdown": _shutdown,
    "getpeername": _getpeername,
    "getsockname": _getsockname,
    "detach": _detach,
    CLOSE_SOCKET: _close,
}


def methods() -> Mapping[str, Callable[..., Any]]:
    """What stands for each method of ``socket.socket``, on top of what is there now."""
    made = {name: make(getattr(socket.socket, name)) for name, make in _METHODS.items()}
    for method in made.values():
        setattr(method, GUARDED, True)
    return made
