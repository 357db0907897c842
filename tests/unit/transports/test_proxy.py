"""The proxy: it stands in for the real hosts, over TLS, and lets nothing through."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
from contextlib import contextmanager

import freezegun
import httpx
import pytest
import requests

from fake_server.core.hold import Hold
from fake_server.faults import Fault
from fake_server.hosts import KNOWN_HOSTS
from fake_server.transports import proxy as module
from fake_server.transports.proxy import ProxyServer, available
from fake_server.transports.sockets import SocketServer
from tests.unit.transports.raw import (
    PATIENCE,
    Raw,
    call,
    invokes,
    raw,
    request,
    token_body,
    token_request,
)

pytestmark = pytest.mark.skipif(not available(), reason="needs the extra: proxy")


@pytest.fixture
def proxy(server, tmp_path):
    with ProxyServer(server, tmp_path, hosts=["Mine.example."]) as proxy:
        yield proxy


def url_of(proxy, user=None):
    return proxy.url if user is None else proxy.url.replace("//", f"//{user}:x@")


def trusting(proxy):
    context = ssl.create_default_context(cafile=proxy.ca_file)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@contextmanager
def tunnel(proxy, target, *headers):
    """A connection whose tunnel has been granted."""
    with raw(proxy.port) as client:
        client.send(request("CONNECT", target, b"", *headers, host=target))
        assert client.take(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        yield client


@contextmanager
def tls(proxy, host="platform.claude.com", *headers):
    """A connection to a known host, as a client sees it: through a tunnel, under TLS."""
    with tunnel(proxy, f"{host}:443", *headers) as plain:
        with trusting(proxy).wrap_socket(plain.sock, server_hostname=host) as sock:
            yield Raw(sock)


# Clients.


def test_httpx_refreshes_through_the_proxy(server, proxy):
    """A client that knows only the real URLs is answered by the fake, and its worker is the proxy's user."""
    grant = server.login("alice")
    with httpx.Client(proxy=url_of(proxy, "w0"), verify=trusting(proxy), trust_env=False) as client:
        token = client.post("https://platform.claude.com/v1/oauth/token", content=token_body(grant.refresh[0].secret))
        bearer = {"authorization": f"Bearer {token.json()['access_token']}"}
        answer = client.post("https://api.anthropic.com/v1/messages", json={"stream": True}, headers=bearer)
        plain = client.get("http://claude.ai/api/hello")
    assert (token.status_code, answer.status_code, plain.status_code) == (200, 200, 200)
    assert answer.text.endswith('{"type":"message_stop"}\n\n')
    assert [(event.actor, event.get("host")) for event in invokes(server)] == [
        ("w0", "platform.claude.com"),
        ("w0", "api.anthropic.com"),
        ("w0", "claude.ai"),
    ]


def test_requests_goes_through_the_proxy(server, proxy, monkeypatch):
    """A client that is told by the environment."""
    for name, value in {
        "HTTPS_PROXY": url_of(proxy, "w1"),
        "REQUESTS_CA_BUNDLE": proxy.ca_file,
        "NO_PROXY": "",
        "no_proxy": "",
    }.items():
        monkeypatch.setenv(name, value)
    with requests.get("https://console.anthropic.com/v1/oauth/hello", timeout=PATIENCE) as answer:
        assert answer.json() == {"message": "hello"}
    assert invokes(server)[0].actor == "w1"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_goes_through_the_proxy(server, proxy):
    """A client in another process."""
    arguments = ["curl", "-sS", "--noproxy", "", "--cacert", proxy.ca_file, "-x", url_of(proxy, "w2")]
    done = subprocess.run(
        [*arguments, "https://claude.ai/api/hello"], capture_output=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == b'{"message":"hello"}'
    assert invokes(server)[0].actor == "w2"


# Tunnels.


@pytest.mark.parametrize("host", [*KNOWN_HOSTS, "mine.example"])
def test_each_known_host_has_a_certificate(server, proxy, host):
    """A tunnel to a known host, or to one that was added, ends in a TLS session for that very name."""
    with tls(proxy, host) as client:
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        client.send(request("GET", "/api/hello", host=host), request("GET", "/api/hello", host=host))
        assert [client.reply().status, client.reply().status] == [200, 200]
    assert [event.actor for event in invokes(server)] == ["p1", "p1"]


@pytest.mark.parametrize(
    "target",
    [
        "example.com:443",
        "evil-claude.ai:443",
        "platform.claude.com:22",
        "platform.claude.com",
        "127.0.0.1:22",
        "[::1]:1",
    ],
)
def test_every_other_tunnel_is_refused(server, proxy, target):
    """403, and no name is looked up: nothing is forwarded, to nowhere."""
    with raw(proxy.port) as client:
        client.send(request("CONNECT", target, host=target))
        assert client.reply().status == 403
        assert client.to_the_end() == b""
    assert invokes(server) == []


def test_hosts_that_were_named_are_reached_at_any_port(server, tmp_path):
    """Each with a certificate of its own, however deep below a star; with TLS or without, as the client begins."""
    hosts = ["auth.example:8443", "*.below.example", "my_host.example"]
    with ProxyServer(server, tmp_path, hosts=hosts) as proxy:
        for host, port in (
            ("auth.example", 8443),
            ("a.below.example", 443),
            ("a.b.below.example", 9),
            ("A.b.below.example.", 9),
        ):
            with tunnel(proxy, f"{host}:{port}") as plain:
                name = host.rstrip(".").lower()
                with trusting(proxy).wrap_socket(plain.sock, server_hostname=name) as sock:
                    client = Raw(sock)
                    client.send(request("GET", "/api/hello"))
                    assert client.reply().status == 200
        for target in ("my_host.example:443", "a_b.below.example:1"):  # no certificate can name them
            with tunnel(proxy, target) as client:
                client.send(request("GET", "/api/hello"))
                assert client.reply().status == 200
        with raw(proxy.port) as client:
            client.send(request("CONNECT", "auth.example:443"))
            assert client.reply().status == 403
    assert [(event.get("host"), event.get("port")) for event in refused(server)] == [("auth.example", 443)]


def refused(server):
    return [event for event in server.journal.events if event.f == "refused"]


def test_what_is_asked_by_plain_http_is_answered_or_refused(server, tmp_path):
    """In the absolute form in which a proxy is asked; no other server on loopback is stood in for."""
    asked = {
        "http://api.anthropic.com/api/hello": 200,
        "http://api.anthropic.com:8080/api/hello": 200,
        "http://auth.example:80/api/hello": 200,
        "http://auth.example:81/api/hello": 403,
        "http://example.com/api/hello": 403,
        "http://127.0.0.1:1/api/hello": 403,
        "ftp://api.anthropic.com/x": 403,
    }
    user = "Proxy-Authorization: Basic " + base64.b64encode(b"w3:x").decode()
    with SocketServer(server) as own, ProxyServer(server, tmp_path, own=own, hosts=["auth.example:80"]) as proxy:
        asked[f"http://127.0.0.1:{own.port}/api/hello"] = 200
        for url, status in asked.items():
            with raw(proxy.port) as client:
                client.send(request("GET", url, b"", user))
                assert (url, client.reply().status) == (url, status)
    assert len(invokes(server)) == list(asked.values()).count(200)
    assert [(event.actor, event.get("host"), event.get("port")) for event in refused(server)] == [
        ("w3", "auth.example", 81),
        ("w3", "example.com", 80),
        ("w3", "127.0.0.1", 1),
        ("w3", "api.anthropic.com", None),
    ]
    assert all("nothing is forwarded" in event.get("remedy") for event in refused(server))


@pytest.mark.parametrize("reset", [True, False])
def test_a_client_that_leaves_a_tunnel_before_its_first_byte_leaves_nothing(server, tmp_path, reset):
    """Neither an open connection nor the second descriptor by which the first byte is looked at."""
    before = len(os.listdir("/dev/fd"))
    with ProxyServer(server, tmp_path) as proxy:
        with tunnel(proxy, "claude.ai:443") as left:
            if reset:
                left.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with tls(proxy) as client:
            client.send(request("GET", "/api/hello"))
            assert client.reply().status == 200
        with tunnel(proxy, "claude.ai:443"):
            proxy.stop()
        assert proxy.connections == set()
    assert len(os.listdir("/dev/fd")) == before


def test_a_target_that_is_none_is_refused(proxy):
    """400 for what is not a host and a port."""
    with raw(proxy.port) as client:
        client.send(request("CONNECT", "claude.ai:https"))
        assert client.reply().status == 400


def test_a_plain_tunnel_is_plain(server, proxy):
    """A tunnel to port 80 carries HTTP without TLS, of the worker that opened it."""
    user = "Proxy-Authorization: Basic " + base64.b64encode(b"w3:x").decode()
    with tunnel(proxy, "api.anthropic.com:80", user) as client:
        client.send(request("GET", "/api/hello"), request("GET", "/w/w4/api/hello"))
        assert [client.reply().status, client.reply().status] == [200, 200]
    assert [event.actor for event in invokes(server)] == ["w3", "w4"]


def test_our_own_server_can_be_reached_through_a_tunnel(server, tmp_path):
    """A client that sends its loopback traffic through the proxy, too, finds the same service."""
    with SocketServer(server) as own, ProxyServer(server, tmp_path, own=own) as proxy:
        with tunnel(proxy, f"127.0.0.1:{own.port}") as client:
            client.send(request("GET", "/api/hello"))
            assert client.reply().status == 200
        with raw(proxy.port) as client:
            client.send(request("CONNECT", f"localhost:{own.port + 1}"))
            assert client.reply().status == 403
    assert [event.actor for event in invokes(server)] == ["p1"]


def test_a_request_may_come_with_the_end_of_the_handshake(server, proxy):
    """A client's first request may be in one packet with its last handshake message."""
    with tunnel(proxy, "claude.ai:443") as client:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = trusting(proxy).wrap_bio(incoming, outgoing, server_hostname="claude.ai")
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.send(outgoing.read())
                incoming.write(client.sock.recv(65536))
        session.write(request("GET", "/api/hello"))
        client.send(outgoing.read())
        answer = b""
        while b"hello" not in answer:
            try:
                answer += session.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(client.sock.recv(65536))
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_client_that_does_not_trust_us_leaves_nothing(server, proxy):
    """A failed handshake ends the connection, and the next client is served."""
    with tunnel(proxy, "claude.ai:443") as client, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(client.sock, server_hostname="claude.ai")
    with tunnel(proxy, "claude.ai:443") as client:
        client.send(b"this is not TLS at all, and long enough to be seen as none")
        client.to_the_end()
    with tls(proxy) as client:
        client.send(request("GET", "/api/hello"))
        assert client.reply().status == 200
    assert len(invokes(server)) == 1


def test_the_certificate_is_good_in_frozen_time(proxy):
    """A test that has frozen the time long ago, or far ahead, can connect."""
    for when in ("2015-01-01", "2035-01-01"):
        with freezegun.freeze_time(when), tls(proxy) as client:
            client.send(request("GET", "/api/hello"))
            assert client.reply().status == 200


def test_the_certificate_is_in_its_folder_alone(server, tmp_path):
    """The folder gets one file, the public certificate; the key stays in memory."""
    proxy = ProxyServer(server, tmp_path)
    assert os.listdir(tmp_path) == ["ca.pem"]
    assert proxy.ca_file == str(tmp_path / "ca.pem")
    assert "PRIVATE" not in (tmp_path / "ca.pem").read_text()


def test_without_the_extra_there_is_no_proxy(server, tmp_path, monkeypatch):
    """The import error names what is missing."""
    monkeypatch.setattr(module, "_authority", module._authority.__wrapped__)  # not the one that was made before
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ModuleNotFoundError, match="trustme"):
        ProxyServer(server, tmp_path)


def test_only_loopback_is_bound(server, tmp_path):
    """The proxy listens for nobody else either."""
    with pytest.raises(ValueError, match="loopback"):
        ProxyServer(server, tmp_path, "0.0.0.0")


# How it goes wrong.


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.RESET, httpx.TransportError),  # Python's ssl takes a reset for an end
        (Fault.LOST_REPLY, httpx.TransportError),
        (Fault.GARBAGE, httpx.RemoteProtocolError),
        (Fault.TRUNCATED, httpx.TransportError),
        (Fault.TIMEOUT, httpx.ReadTimeout),
    ],
    ids=lambda value: str(value) if isinstance(value, Fault) else "",
)
def test_faults_strike_under_tls_too(proxy, watch, fault, error):
    """Each fault is the exception that a real network would have caused."""
    proxy.server.faults.add("token", fault)
    content = token_body(proxy.server.login("a").refresh[0].secret)
    with pytest.raises(error), httpx.Client(proxy=proxy.url, verify=trusting(proxy), trust_env=False) as client:
        timeout = 0.2 if fault is Fault.TIMEOUT else PATIENCE
        client.post("https://platform.claude.com/v1/oauth/token", content=content, timeout=timeout)
    assert [event.get("fault") for event in watch.of("info")] == [str(fault)]


def test_a_reset_under_tls_is_a_reset(server, proxy):
    """It is the connection below that is reset."""
    server.faults.add("token", Fault.RESET)
    with tunnel(proxy, "claude.ai:443") as plain, plain.sock.dup() as below:
        below.settimeout(PATIENCE)
        with trusting(proxy).wrap_socket(plain.sock, server_hostname="claude.ai") as sock:
            sock.sendall(token_request("unknown"))
            with pytest.raises(ConnectionResetError):
                Raw(below).to_the_end()


def test_a_client_that_leaves_its_tunnel_is_gone(server, proxy, watch):
    """Under TLS an end is an end: there is no half-closed client."""
    server.holds.append(Hold("call", 2))
    with tls(proxy) as client:
        client.send(call(server.login("a").access[0].secret))
        watch.of("invoke")
    assert [event.error for event in watch.of("info")] == ["client gone"]


def test_a_refusal_under_tls_is_read(proxy):
    """What is not HTTP is refused inside a tunnel, too."""
    with tls(proxy) as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.reply().status == 400
        assert client.to_the_end() == b""


def test_a_client_that_leaves_amid_the_handshake_leaves_nothing(server, tmp_path):
    """The proxy stops at once although a handshake was never finished."""
    proxy = ProxyServer(server, tmp_path)
    proxy.start()
    with tunnel(proxy, "claude.ai:443") as left:
        left.send(b"\x16\x03\x01")
        left.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with tunnel(proxy, "claude.ai:443") as stays:
        stays.send(b"\x16\x03\x01")
        with tls(proxy) as client:
            client.send(token_request(server.login("a").refresh[0].secret))
            assert client.reply().status == 200
            proxy.stop()
        assert stays.to_the_end() == b""
    assert proxy.connections == set()
