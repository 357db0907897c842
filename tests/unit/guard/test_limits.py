"""What the guard does not see, as `docs/promises.md` says: nothing here sends a byte to another machine."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys

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


def test_another_process_has_its_environment_alone(guarded):
    """No guard is in there: it asks for the name, here without a look-up, and is told that it is no address."""
    guarded.install()
    code = f"import socket; socket.getaddrinfo('claude.ai', 443, flags={AI_NUMERICHOST})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "gaierror" in done.stderr
