"""A small HTTP/1.1 client: one connection for each request, loopback only.

``http.client`` imports ``email`` and ``ssl``, which would double the start-up time.
"""

from __future__ import annotations

import socket
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import IO

    from pytest_claude_tokens.claude.dialects import Dialect

__all__ = ["Http", "HttpError", "Reply", "Url", "refusal"]

_PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
_NO_PROXIES = ("no_proxy", "NO_PROXY")
_MAX_LINE_BYTES = 65536


class HttpError(Exception):
    """No complete reply. ``code``: ECONNREFUSED, ECONNRESET, ETIMEDOUT, EPROTO, ECERT, EPROXY or ENETUNREACH."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Reply:
    """A complete reply. Header names are lower case."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Url:
    """The parts of an absolute URL. Raises ``ValueError`` if its scheme is neither http nor https."""

    def __init__(self, text: str) -> None:
        self.scheme, separator, rest = text.partition("://")
        authority, slash, path = rest.partition("/")
        self.user, _, place = authority.rpartition("@")
        host, port = place, ""
        if place.startswith("["):
            host, _, port = place[1:].partition("]")
            port = port.lstrip(":")
        elif ":" in place:
            host, _, port = place.rpartition(":")
        if not separator or self.scheme not in ("http", "https") or not host:
            raise ValueError(f"not an http address: {text!r}")
        self.host = host.lower()
        self.port = int(port) if port else {"http": 80, "https": 443}[self.scheme]
        self.path = slash + path or "/"
        self.place = place

    @property
    def loopback(self) -> bool:
        """Whether its host is this machine, by its spelling alone: a look-up might ask a server elsewhere."""
        numbers = self.host.split(".")
        in_127 = len(numbers) == 4 and numbers[0] == "127" and all(number.isdigit() for number in numbers)
        return in_127 or self.host in ("localhost", "::1")


def refusal(environ: Mapping[str, str]) -> str | None:
    """Why the stand-in must not run in this environment, or ``None``."""
    names = ("ANTHROPIC_BASE_URL", "CLAUDE_TOKENS_TOKEN_URL", *_PROXIES)
    given = [name for name in names if environ.get(name)]
    for name in given:
        try:
            url = Url(environ[name])
        except ValueError:
            return f"{name} is not an http address"
        if not url.loopback:
            return f"{name} names {url.host}, which is not a loopback address"
        if name == "CLAUDE_TOKENS_TOKEN_URL" and url.scheme != "http":
            return f"{name} is for plain http"
    if not set(given) - {"CLAUDE_TOKENS_TOKEN_URL"}:
        return "neither ANTHROPIC_BASE_URL nor HTTPS_PROXY names a loopback address"
    return None


class Http:
    """Sends requests as the environment says: straight to loopback, or through a proxy on loopback."""

    def __init__(self, environ: Mapping[str, str], dialect: Dialect) -> None:
        self._environ = environ
        self._dialect = dialect

    def request(
        self,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        *,
        timeout: float,
        wait: bool = True,
    ) -> Reply:
        """Send one request and read its reply; ``timeout`` is in seconds, for each step. Raises :class:`HttpError`.

        Without ``wait`` it hangs up as soon as the request is sent, and returns an empty reply.
        """
        target = Url(url)
        try:
            sock, path, more = self._connect(target, timeout)
            with sock:
                lines = [f"{method} {path} HTTP/1.1", f"Host: {target.place}"]
                lines += [f"{name}: {value}" for name, value in (*headers, *more)]
                if body is not None:
                    lines.append(f"Content-Length: {len(body)}")
                lines.append("Connection: close")
                if any("\n" in line or "\r" in line for line in lines):
                    raise ValueError("a line break in a header")
                sock.sendall("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + (body or b""))
                if not wait:
                    return Reply(0, {}, b"")
                with sock.makefile("rb") as file:
                    return _read_reply(file, method)
        except TimeoutError:
            raise HttpError("ETIMEDOUT", f"no answer from {target.host} in {timeout:g} s") from None
        except ConnectionRefusedError:
            raise HttpError("ECONNREFUSED", f"nobody listens at {target.place}") from None
        except OSError as error:
            raise HttpError("ECONNRESET", str(error)) from None
        except ValueError as error:
            raise HttpError("EPROTO", str(error)) from None

    def _connect(self, target: Url, timeout: float) -> tuple[socket.socket, str, list[tuple[str, str]]]:
        proxy = self._proxy_for(target)
        if proxy is None:
            sock = _open(target, timeout)
            return (self._secure(sock, target) if target.scheme == "https" else sock), target.path, []
        credentials = [("Proxy-Authorization", "Basic " + _basic(proxy.user))] if proxy.user else []
        sock = _open(proxy, timeout)
        if target.scheme == "http" and not self._dialect.first:
            return sock, f"http://{target.place}{target.path}", credentials
        try:
            _tunnel(sock, f"{target.host}:{target.port}", credentials)
        except BaseException:
            sock.close()
            raise
        return (self._secure(sock, target) if target.scheme == "https" else sock), target.path, []

    def _proxy_for(self, target: Url) -> Url | None:
        address = next((self._environ[name] for name in _PROXIES if self._environ.get(name)), None)
        if address is None:
            return None
        listed = next((self._environ[name] for name in _NO_PROXIES if self._environ.get(name)), "")
        for word in listed.replace(",", " ").lower().split():
            name = word.lstrip(".")
            if word == "*" or name in (target.host, f"{target.host}:{target.port}") or target.host.endswith("." + name):
                return None
        return Url(address)

    def _secure(self, sock: socket.socket, target: Url) -> socket.socket:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        names = ["NODE_EXTRA_CA_CERTS"] if self._dialect.first else ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"]
        try:
            if self._environ.get("NODE_TLS_REJECT_UNAUTHORIZED") == "0":
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            for name in names:
                if self._environ.get(name):
                    context.load_verify_locations(self._environ[name])
            return context.wrap_socket(sock, server_hostname=target.host)
        except ssl.SSLCertVerificationError as error:
            sock.close()
            raise HttpError("ECERT", error.verify_message) from None
        except BaseException:
            sock.close()
            raise


def _open(url: Url, timeout: float) -> socket.socket:
    """Connect to a loopback address, and never to any other."""
    if not url.loopback:
        raise HttpError("ENETUNREACH", f"{url.host} is not reached through a proxy, and never without")
    if url.host != "localhost":
        return _connect(url.host, url.port, timeout)
    try:
        return _connect("127.0.0.1", url.port, timeout)
    except ConnectionRefusedError:
        with suppress(OSError):  # the machine may have no IPv6
            return _connect("::1", url.port, timeout)
        raise


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _basic(user: str) -> str:
    import binascii
    from urllib.parse import unquote

    name, colon, password = user.partition(":")
    text = unquote(name) + (colon or ":") + unquote(password)
    return binascii.b2a_base64(text.encode(), newline=False).decode()


def _tunnel(sock: socket.socket, place: str, credentials: list[tuple[str, str]]) -> None:
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", *(f"{name}: {value}" for name, value in credentials)]
    sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # byte by byte: the bytes after the head belong to TLS
        byte = sock.recv(1)
        if not byte or len(head) > _MAX_LINE_BYTES:
            raise HttpError("EPROXY", f"the proxy hung up on CONNECT {place}")
        head += byte
    status = head.split(None, 2)[1:2]
    if status != [b"200"]:
        raise HttpError("EPROXY", f"the proxy refused CONNECT {place}")


def _line(file: IO[bytes]) -> bytes:
    line = file.readline(_MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the connection ended early" if len(line) < _MAX_LINE_BYTES else "a line too long")
    return line.rstrip(b"\r\n")


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ConnectionResetError("the body was cut short")
    return data


def _read_reply(file: IO[bytes], method: str) -> Reply:
    status = 100
    headers: dict[str, str] = {}
    while 100 <= status < 200:  # interim replies are skipped (RFC 9110 section 15.2)
        version, _, rest = _line(file).partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError("the reply is not HTTP")
        status = int(rest[:3])
        headers = {}
        while line := _line(file):
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    if method == "HEAD" or status in (204, 304):
        return Reply(status, headers, b"")
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int(_line(file).partition(b";")[0], 16):
            body += _exactly(file, size)
            _line(file)
        while _line(file):
            pass
    elif "content-length" in headers:
        body = _exactly(file, int(headers["content-length"]))
    else:
        body = file.read()
    return Reply(status, headers, body)
