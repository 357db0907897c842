"""What the guard does not see, as `docs/promises.md` says: nothing here sends a byte to another machine."""

from __future__ import annotations

import ctypes
import socket
import ssl
import subprocess
import sys
from contextlib import suppress

import pytest

from pytest_claude_tokens.guard import RealServiceRefused, audit

AI_NUMERICHOST = 4  # no name is looked up


class Hints(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("flags", "family", "kind", "protocol")),
        *(("length", ctypes.c_size_t), ("address", ctypes.c_void_p), ("name", ctypes.c_void_p)),
        ("following", ctypes.c_void_p),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs the C library of Linux")
def test_calls_below_socket_are_not_seen(guarded):
    """The C library is asked without a word to Python."""
    guarded.install()
    with pytest.raises(RealServiceRefused):
        socket.getaddrinfo("claude.ai", None, flags=AI_NUMERICHOST)

    hints, found = Hints(flags=AI_NUMERICHOST), ctypes.c_void_p()
    code = ctypes.CDLL(None).getaddrinfo(b"claude.ai", None, ctypes.byref(hints), ctypes.byref(found))
    assert code == socket.EAI_NONAME


def test_an_address_is_no_name(guarded):
    """Whose address a number is can't be known without a look-up."""
    guarded.install()
    audit._hook("socket.connect", (object(), ("192.0.2.1", 443)))


def test_what_is_sent_over_tls_is_not_seen(guarded):
    """As to a proxy at `https://proxy.example`: the socket is given nothing but records of TLS."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("proxy.example").configure_cert(theirs)
    authority.configure_trust(ours)
    to_proxy, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(to_client, to_proxy, server_hostname="proxy.example")
    proxy = theirs.wrap_bio(to_proxy, to_client, server_side=True)
    for _ in range(2):
        for side in (client, proxy):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    request = b"CONNECT claude.ai:443 HTTP/1.1\r\n\r\n"
    client.write(request)

    guarded.install()
    near, far = socket.socketpair()
    with near, far:
        near.sendall(to_proxy.read())
        to_proxy.write(far.recv(1000))
    assert proxy.read() == request


def test_another_process_has_its_environment_alone(guarded):
    """No guard is in there: it asks for the name, here without a look-up, and is told that it is no address."""
    guarded.install()
    code = f"import socket; socket.getaddrinfo('claude.ai', 443, flags={AI_NUMERICHOST})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "gaierror" in done.stderr
