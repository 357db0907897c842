"""TLS on sockets in memory: it is pretended, on genuine sockets of genuine contexts."""

from __future__ import annotations

import socket
import ssl
import sys
import warnings
from contextlib import closing

import pytest

from pytest_claude_tokens.simulation.schedule import Schedule
from pytest_claude_tokens.simulation.sockets.tls import tls_simulated
from pytest_claude_tokens.simulation.sockets.wire import WIRES
from tests.unit.simulation.worlds import tried, world

pytestmark = pytest.mark.usefixtures("staged")

HOST = "api.anthropic.com"
HELLO = b"GET /api/hello HTTP/1.1\r\nhost: api.anthropic.com\r\n\r\n"


def alone(job):
    """Run a body with one worker, which is given a connected socket."""

    def work():
        with closing(socket.create_connection((HOST, 443))) as sock:
            job(sock)

    tried(lambda claude_tokens, workers: workers(work), Schedule(), 1)


def test_tls_is_a_genuine_socket_of_a_genuine_context():
    """With all that one asks of it."""

    def job(plain):
        context = ssl.create_default_context()
        with pytest.raises(ValueError, match="server_hostname"):
            context.wrap_socket(plain)
        assert plain.fileno() in WIRES
        with context.wrap_socket(plain, server_hostname=HOST) as sock:
            assert type(sock) is ssl.SSLSocket
            assert plain.fileno() == -1
            sock.do_handshake()
            assert sock.version() == "TLSv1.3"
            assert sock.cipher()[1] == "TLSv1.3"
            assert sock.getpeercert()["subjectAltName"] == (("DNS", HOST),)
            assert sock.getpeercert(binary_form=True) == b""
            assert sock.selected_alpn_protocol() is None
            assert sock.compression() is None
            assert sock.pending() == 0
            assert not sock.session_reused
            assert sock.context is context
            assert sock.write(HELLO) == len(HELLO)
            assert sock.read(4) == b"HTTP"
            assert sock.read(1, bytearray(4)) == 1
            buffer = memoryview(bytearray(4))
            assert sock.recv_into(buffer) == 4
            assert bytes(buffer) == b"1.1 "
            assert sock.unwrap() is sock

    alone(job)


def test_a_client_that_verifies_nothing_sees_no_certificate():
    """As ever."""

    def job(plain):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as sock:
            assert sock.getpeercert() == {}
            session = sock._sslobj
            assert session.get_unverified_chain() == []
        assert session.read(1) == b""  # closed
        with pytest.raises(ssl.SSLZeroReturnError):
            session.write(b"x")

    alone(job)


def test_a_socket_that_is_lost_while_it_is_wrapped_is_no_connection_any_more():
    """The context has its own idea of a socket, and fails when it has taken the number."""

    class Mine(ssl.SSLSocket):
        def settimeout(self, value):
            super().settimeout(value)
            raise RuntimeError("mine")

    def job(plain):
        number = plain.fileno()
        context = ssl.create_default_context()
        context.sslsocket_class = Mine
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.11 leaves it unclosed
            with pytest.raises(RuntimeError, match="mine"):
                context.wrap_socket(plain, server_hostname=HOST)
        assert number not in WIRES

    alone(job)


def test_contexts_read_their_files_when_they_are_needed(tmp_path):
    """Each file once in a search; and all that outlive it have read theirs."""
    made = [ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(4)]
    file, pem = tmp_path / "ca.pem", authority()
    file.write_text(pem)
    with tls_simulated(), world():
        with pytest.raises(FileNotFoundError):
            made[0].load_verify_locations(tmp_path / "nowhere.pem")
        for context in made:
            context.load_verify_locations(file)
        assert [loaded(context) for context in made[:2]] == [1, 1]
        assert len(made[2].get_ca_certs()) == 1
        made[2].load_verify_locations(cadata=pem)
        first, second = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
        first.set_default_verify_paths()
        second.set_default_verify_paths()
        assert loaded(second) == loaded(first)
        made[3].set_default_verify_paths()
        gone = tmp_path / "gone.pem"
        gone.write_text(pem)
        made[0].load_verify_locations(gone)
        made[1].load_verify_locations(gone)
        gone.unlink()
    assert [loaded(context) for context in made] == [1, 1, 1, 1 + loaded(first)]


def loaded(context):
    """How many certificates it knows."""
    return context.cert_store_stats()["x509"]


def authority():
    """A certificate of an authority."""
    trustme = pytest.importorskip("trustme", reason="needs trustme")
    return trustme.CA().cert_pem.bytes().decode()


def test_connections_of_urllib3_share_a_context():
    """One of each kind, whatever a connection has changed in it; outside of a world each makes its own."""
    connection = pytest.importorskip("urllib3.connection", reason="needs urllib3")
    real = connection.create_urllib3_context
    with tls_simulated():
        make = connection.create_urllib3_context
        assert make(cert_reqs=ssl.CERT_REQUIRED) is not make(cert_reqs=ssl.CERT_REQUIRED)
        with world():
            first, careless = make(cert_reqs=ssl.CERT_REQUIRED), make(cert_reqs=ssl.CERT_NONE)
            first.check_hostname = False
            assert make(cert_reqs=ssl.CERT_REQUIRED) is first
            assert first.check_hostname
            assert make(cert_reqs=ssl.CERT_REQUIRED) is first
            assert make(cert_reqs=ssl.CERT_NONE) is careless
            assert not careless.check_hostname
    assert connection.create_urllib3_context is real


def test_without_urllib3_nothing_is_shared(monkeypatch):
    """It is never imported here."""
    monkeypatch.delitem(sys.modules, "urllib3.connection", raising=False)
    before = set(sys.modules)
    with tls_simulated():
        assert set(sys.modules) == before
