"""The small HTTP client, against scripted bytes on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager

import pytest

from pytest_claude_tokens.claude.dialects import DIALECTS
from pytest_claude_tokens.claude.http import Http, HttpError, Url

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@contextmanager
def listening(*replies, host="127.0.0.1", port=0):
    """A server that answers its connections with ``replies``, one each; yields its port and what it was sent.

    A reply is bytes, or a tuple of them: then each but the first waits for something to arrive. ``None`` hangs up.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    received: list[bytes] = []
    with socket.socket(family) as listener:
        listener.bind((host, port))
        listener.listen()
        listener.settimeout(20)

        def serve():
            for reply in replies:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(20)
                    if reply is None:
                        continue
                    for part in reply if isinstance(reply, tuple) else (reply,):
                        if callable(part):
                            connection = part(connection)
                            continue
                        data = b""
                        while b"\r\n\r\n" not in data:
                            more = connection.recv(65536)
                            if not more:
                                break
                            data += more
                        received.append(data)
                        connection.sendall(part)
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], received
        thread.join(20)
        assert not thread.is_alive()


def http(dialect="2.1.123", **environ):
    return Http(environ, DIALECTS[dialect])


def get(client, port, path="/x?y=1", method="GET", host="127.0.0.1", **options):
    return client.request(method, f"http://{host}:{port}{path}", [("A", "b")], timeout=20, **options)


# Requests.


def test_a_request_has_its_line_its_headers_and_its_body():
    """In the order in which they were given; the connection is for one request."""
    with listening(OK) as (port, received):
        reply = get(http(), port, method="POST", body=b"body")
    assert (reply.status, reply.body) == (200, b"hi")
    head = f"POST /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nA: b\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
    assert received == [head.encode() + b"body"]


def _has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")
def test_localhost_is_tried_on_both_protocols():
    """Without a look-up: first 127.0.0.1, then ::1."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else can
        number = silent.getsockname()[1]
        with listening(OK, host="::1", port=number) as (port, received):
            assert get(http(), port, host="localhost").body == b"hi"
    assert len(received) == 1
    with listening(OK, host="::1") as (port, _):
        assert get(http(), port, host="[::1]").body == b"hi"


def test_nobody_listening_is_told():
    """ECONNREFUSED, on one name or both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(HttpError, match="ECONNREFUSED"):
                get(http(), port, host=host)


def test_it_hangs_up_without_waiting_where_that_is_wanted():
    """The request is sent, and no answer read."""
    with listening(b"") as (port, received):
        assert get(http(), port, wait=False).status == 0
    assert received[0].startswith(b"GET /x")


def test_a_line_break_in_a_header_is_refused():
    """A token with a newline in it makes no second header."""
    with listening(None) as (port, received), pytest.raises(HttpError, match="EPROTO: a line break"):
        http().request("GET", f"http://127.0.0.1:{port}/", [("Authorization", "Bearer x\r\nEvil: 1")], timeout=20)
    assert received == []


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("https://api.anthropic.com/v1/messages", {}),
        ("http://93.184.216.34/", {}),
        ("https://api.anthropic.com/", {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "anthropic.com"}),
        ("https://api.anthropic.com/", {"HTTPS_PROXY": "http://proxy.example:1"}),
    ],
)
def test_another_host_is_never_connected_to(url, environ, monkeypatch):
    """Whatever led here: by a name or a number, past the proxy or by way of another."""
    monkeypatch.setattr("pytest_claude_tokens.claude.http._connect", None)  # nobody is reached, should this ever break
    with pytest.raises(HttpError, match="ENETUNREACH"):
        http(**environ).request("GET", url, timeout=20)


@pytest.mark.parametrize("text", ["ftp://127.0.0.1/", "127.0.0.1", "http://", "http://127.0.0.1:port/"])
def test_an_address_must_be_http(text):
    """Anything else is a ValueError."""
    with pytest.raises(ValueError):
        Url(text)


# Replies.


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nab\r\n1\r\nc\r\n0\r\nT: 1\r\n\r\n",
            200,
            b"abc",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", 200, b"to the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: 1\r\n\r\n" + OK, 200, b"hi"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 404\nContent-Length: 0\n\n", 404, b""),
    ],
)
def test_each_way_to_end_a_body_is_read(raw, status, body):
    """Chunks, a length, the end of the connection, none at all; interim replies are skipped."""
    with listening(raw) as (port, _):
        reply = get(http(), port)
    assert (reply.status, reply.body) == (status, body)


def test_the_answer_to_head_has_no_body():
    """Whatever length it names."""
    with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n") as (port, _):
        assert get(http(), port, method="HEAD").body == b""


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (None, "ECONNRESET"),
        (b"", "ECONNRESET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "ECONNRESET"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "ECONNRESET"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n", "ECONNRESET"),
        (b"\x16\x03\x00 this is not HTTP\r\n\r\n", "EPROTO"),
        (b"HTTP/1.1 abc\r\n\r\n", "EPROTO"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "EPROTO"),
    ],
)
def test_a_reply_that_is_none_is_told(raw, code):
    """Lost, cut short, or no HTTP."""
    with listening(raw) as (port, _), pytest.raises(HttpError) as error:
        get(http(), port)
    assert error.value.code == code


def test_a_silent_server_is_given_up():
    """After the time-out, in seconds."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(HttpError, match=r"ETIMEDOUT: no answer from 127.0.0.1 in 0.01 s"):
            http().request("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.01)


# Proxies.


def test_a_plain_request_goes_to_the_proxy_in_absolute_form():
    """From 2.1 on; the proxy's user name goes with it, decoded."""
    with listening(OK) as (port, received):
        client = http(HTTPS_PROXY=f"http://w%200:p@127.0.0.1:{port}")
        assert client.request("GET", "http://127.0.0.1:9/x", timeout=20).body == b"hi"
    assert received[0].startswith(b"GET http://127.0.0.1:9/x HTTP/1.1\r\nHost: 127.0.0.1:9\r\n")
    assert b"Proxy-Authorization: Basic dyAwOnA=\r\n" in received[0]


def test_1_0_asks_its_proxy_for_a_tunnel_even_to_a_plain_address():
    """CONNECT, then the request."""
    with listening((b"HTTP/1.1 200 OK\r\n\r\n", OK)) as (port, received):
        client = http("1.0", https_proxy=f"http://w0@127.0.0.1:{port}")
        assert client.request("GET", "http://127.0.0.1:9/x", timeout=20).body == b"hi"
    assert received[0].startswith(
        b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\nProxy-Authorization: Basic dzA6\r\n"
    )
    assert received[1].startswith(b"GET /x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refused CONNECT platform.claude.com:443"),
        (b"\r\n\r\n", "refused"),
        (b"HTTP/1.1 200", "hung up"),
        (b"x" * 70000 + b"\r\n\r\n", "hung up"),
    ],
)
def test_a_proxy_that_refuses_is_told(reply, reason):
    """EPROXY."""
    with listening(reply) as (port, _), pytest.raises(HttpError, match=f"EPROXY: .*{reason}"):
        http(HTTPS_PROXY=f"http://127.0.0.1:{port}").request("GET", "https://platform.claude.com/", timeout=20)


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("127.0.0.1,localhost", True),
        ("localhost 127.0.0.1:9", True),
        ("*", True),
        ("0.0.1", True),
        (".0.0.1", True),
        ("27.0.0.1", False),
        ("127.0.0.1:10", False),
        ("", False),
    ],
)
def test_no_proxy_lists_names_suffixes_and_ports(no_proxy, direct):
    """In either spelling of the variable."""
    client = http(HTTPS_PROXY="http://127.0.0.1:1", no_proxy=no_proxy)
    assert (client._proxy_for(Url("http://127.0.0.1:9/")) is None) is direct


# TLS.


@pytest.fixture(scope="module")
def authority():
    """A certificate authority of the test's own."""
    trustme = pytest.importorskip("trustme", reason="the extra `proxy` is not installed")
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def tls(authority):
    """Turns the server's end of a connection to TLS for the real name; swallows a client that hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("platform.claude.com").configure_cert(context)

    def wrap(connection):
        try:
            return context.wrap_socket(connection, server_side=True)
        except (ssl.SSLError, OSError):
            return _Silent()

    return wrap


class _Silent:
    """A connection that the client has refused."""

    def recv(self, size):
        return b""

    def sendall(self, data):
        pass

    def close(self):
        pass


def secure(dialect="2.1.123", **environ):
    return lambda port: http(dialect, HTTPS_PROXY=f"http://127.0.0.1:{port}", **environ).request(
        "GET", "https://platform.claude.com/x", timeout=20
    )


TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize(
    ("dialect", "variable"),
    [("1.0", "NODE_EXTRA_CA_CERTS"), ("2.1.123", "NODE_EXTRA_CA_CERTS"), ("2.1.330", "SSL_CERT_FILE")],
)
def test_tls_is_spoken_through_the_tunnel(tls, ca_file, dialect, variable):
    """To the real name, trusting the authority that a variable names."""
    with listening((TUNNEL, tls, OK)) as (port, received):
        assert secure(dialect, **{variable: ca_file})(port).body == b"hi"
    assert received[0].startswith(b"CONNECT platform.claude.com:443 HTTP/1.1\r\n")
    assert received[1].startswith(b"GET /x HTTP/1.1\r\nHost: platform.claude.com\r\n")


@pytest.mark.parametrize(("dialect", "with_file"), [("1.0", True), ("2.1.123", False)])
def test_an_authority_that_is_not_trusted_is_told(tls, ca_file, dialect, with_file):
    """ECERT; 1.0 does not read SSL_CERT_FILE."""
    environ = {"SSL_CERT_FILE": ca_file} if with_file else {}
    with listening((TUNNEL, tls, OK)) as (port, _), pytest.raises(HttpError, match="ECERT"):
        secure(dialect, **environ)(port)


def test_verification_can_be_switched_off(tls):
    """NODE_TLS_REJECT_UNAUTHORIZED=0."""
    with listening((TUNNEL, tls, OK)) as (port, _):
        assert secure(NODE_TLS_REJECT_UNAUTHORIZED="0")(port).body == b"hi"


def test_an_authority_that_cannot_be_read_is_an_error(tls):
    """As any other failure of the connection."""
    with listening((TUNNEL, tls, OK)) as (port, _), pytest.raises(HttpError, match="ECONNRESET"):
        secure(NODE_EXTRA_CA_CERTS="/nowhere/ca.pem")(port)


def test_a_loopback_address_can_be_https_without_a_proxy(authority, ca_file):
    """A base URL may be secure, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with listening((lambda connection: context.wrap_socket(connection, server_side=True), OK)) as (port, _):
        client = http(NODE_EXTRA_CA_CERTS=ca_file)
        assert client.request("GET", f"https://127.0.0.1:{port}/", timeout=20).body == b"hi"
