"""TLS on connections in memory: it is only pretended, on a genuine ``SSLSocket`` of a genuine context.

Contexts read their authorities' certificates late. To read them takes 20 ms, code that makes a client for each request
makes a context for each, and in memory no certificate is looked at. So one file is read for the first context of a
search, by which a bad one shows, and for another when that one is used on a real connection, or outlives the search.
"""

from __future__ import annotations

import ssl
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from fake_server.genuine import os
from pytest_claude_tokens.simulation.active import here
from pytest_claude_tokens.simulation.internals import attributes_set, secure
from pytest_claude_tokens.simulation.sockets.wire import WIRES, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["pretend", "tls_simulated"]


class _Session:
    """What an ``SSLSocket`` takes for its TLS session: the bytes go through as they are."""

    session = None
    session_reused = False

    def __init__(self, sock: Any) -> None:
        self._owner = ref(sock)
        self.context = sock.context
        self.server_hostname = sock.server_hostname
        self.server_side = False

    @property
    def owner(self) -> Any:
        """The socket. It refers to this session, and is to be freed when nobody uses it."""
        return self._owner()

    def do_handshake(self) -> None:
        """It has taken place."""

    def read(self, size: int = 1024, buffer: Any = None) -> Any:
        """As ``SSLSocket.read``."""
        wire = find(self.owner)
        view = None if buffer is None else memoryview(buffer).cast("B")
        if view is not None:
            size = min(size, len(view)) if size > 0 else len(view)
        try:
            data = b"" if wire is None else wire.read(size, 0, self.owner.gettimeout())
        except BlockingIOError:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)") from None
        except TimeoutError as error:
            raise (error if error.errno else TimeoutError("The read operation timed out")) from None
        if view is None:
            return data
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        """As ``SSLSocket.write``."""
        wire = find(self.owner)
        if wire is None:
            raise ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "TLS/SSL connection has been closed (EOF)")
        return wire.send(data, self.owner.gettimeout())

    def pending(self) -> int:
        """Nothing is decrypted before it is read."""
        return 0

    def shutdown(self) -> Any:
        """As ``SSLSocket.unwrap``."""
        return self.owner

    def getpeercert(self, binary_form: bool = False) -> Any:
        """A certificate that names the host; without bytes, as there is none."""
        if binary_form:
            return b""
        if self.context.verify_mode == ssl.CERT_NONE:
            return {}
        name = self.server_hostname or ""
        return {
            "subject": ((("commonName", name),),),
            "issuer": ((("commonName", "simulated"),),),
            "notBefore": "Jan  1 00:00:00 2020 GMT",
            "notAfter": "Jan  1 00:00:00 2100 GMT",
            "subjectAltName": (("DNS", name),),
        }

    def get_unverified_chain(self) -> list[Any]:
        """No certificates."""
        return []

    get_verified_chain = get_unverified_chain

    def cipher(self) -> tuple[str, str, int]:
        """Name, protocol and secret bits."""
        return ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)

    def version(self) -> str:
        """The protocol."""
        return "TLSv1.3"

    def nothing(self, *args: object) -> None:
        """``None``: neither compression, nor a protocol that was agreed upon, nor a binding to the channel."""

    selected_alpn_protocol = selected_npn_protocol = compression = shared_ciphers = nothing
    get_channel_binding = verify_client_post_handshake = nothing


def _wrap_socket(real: Callable[..., Any], catch_up: Callable[[Any], None]) -> Callable[..., Any]:
    def wrap_socket(self: Any, sock: Any, *args: Any, **kwargs: Any) -> Any:
        wire = find(sock)
        if wire is None:
            catch_up(self)
            return real(self, sock, *args, **kwargs)
        del WIRES[wire.number]  # it is to be taken for one that isn't connected yet
        try:
            made = real(self, sock, *args, **kwargs)
        except BaseException:
            if sock.fileno() == wire.number:
                WIRES[wire.number] = wire
            else:
                wire.hang_up()
            raise
        WIRES[wire.number] = wire
        wire.own(made)
        pretend(made)
        return made

    return wrap_socket


def pretend(sock: Any) -> None:
    """Have ``sock``, which is connected in memory, take TLS for established, if it is an ``SSLSocket``."""
    if isinstance(sock, ssl.SSLSocket):
        secure(sock, _Session(sock))


class _Late:
    """The files that contexts have not read yet."""

    def __init__(self, read: Callable[..., None], read_default: Callable[..., None]) -> None:
        self._read = read
        self._read_default = read_default
        self._known: set[object] = set()
        self._waiting: WeakKeyDictionary[Any, dict[tuple[Any, ...], None]] = WeakKeyDictionary()

    def loading(self) -> Callable[..., None]:
        """The method ``SSLContext.load_verify_locations``."""

        def load_verify_locations(context: Any, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
            names = (cafile, capath)
            if here() is None or cadata is not None or not self._is_known((*names, *map(_stamp, names))):
                self._read(context, cafile, capath, cadata)
            else:
                self._waiting.setdefault(context, {})[names] = None

        return load_verify_locations

    def loading_default(self) -> Callable[..., None]:
        """The method ``SSLContext.set_default_verify_paths``."""

        def set_default_verify_paths(context: Any) -> None:
            if here() is None or not self._is_known("default"):
                self._read_default(context)
            else:
                self._waiting.setdefault(context, {})[()] = None

        return set_default_verify_paths

    def catch_up(self, context: Any) -> None:
        """Read what ``context`` should have read."""
        for names in self._waiting.pop(context, ()):
            if names:
                with suppress(OSError):  # of a run that is over, whose files are gone
                    self._read(context, *names)
            else:
                self._read_default(context)

    def catch_all_up(self) -> None:
        """The search is over."""
        for context in list(self._waiting):
            self.catch_up(context)

    def _is_known(self, what: object) -> bool:
        """Whether it has been read in this search before."""
        known = what in self._known
        self._known.add(what)
        return known


def _stamp(path: Any) -> object:
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return object()  # the real function says what is wrong
    return found.st_mtime_ns, found.st_size


@contextmanager
def _shared_by_urllib3() -> Iterator[None]:
    """In the block, connections of urllib3 for which nobody made a context share one of each kind, as httpx's do.

    It makes one for each connection, which takes longer than anything else in a request.
    """
    module = sys.modules.get("urllib3.connection")
    real = getattr(module, "create_urllib3_context", None)
    if real is None:
        yield
        return
    made: dict[object, Any] = {}

    def create_urllib3_context(**settings: Any) -> Any:
        key = tuple(sorted(settings.items()))
        if here() is None or key not in made:
            context = real(**settings)
            return context if here() is None else made.setdefault(key, context)
        context, required = made[key], settings.get("cert_reqs") in (None, ssl.CERT_REQUIRED)
        if context.check_hostname != required:  # a connection has changed it for itself
            context.check_hostname = required
        return context

    setattr(module, "create_urllib3_context", create_urllib3_context)  # noqa: B010 - to mypy it is a module
    try:
        yield
    finally:
        setattr(module, "create_urllib3_context", real)  # noqa: B010


@contextmanager
def tls_simulated() -> Iterator[None]:
    """In the block, sockets that are connected in memory can be wrapped in TLS."""
    owner: Any = ssl.SSLContext
    late = _Late(owner.load_verify_locations, owner.set_default_verify_paths)

    def caught_up(name: str) -> Callable[..., Any]:
        real = getattr(owner, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            late.catch_up(self)
            return real(self, *args, **kwargs)

        return call

    patches = {
        "load_verify_locations": late.loading(),
        "set_default_verify_paths": late.loading_default(),
        "wrap_socket": _wrap_socket(owner.wrap_socket, late.catch_up),
        **{name: caught_up(name) for name in ("wrap_bio", "get_ca_certs", "cert_store_stats")},
    }
    with attributes_set(owner, patches), _shared_by_urllib3():
        try:
            yield
        finally:
            late.catch_all_up()
