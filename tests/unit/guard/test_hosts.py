"""Which proxy is one of ours: on loopback by any of its names, at a port on which this process serves."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pytest_claude_tokens.guard import RealServiceRefused, audit, hosts

TUNNEL = b"CONNECT api.anthropic.com:443 HTTP/1.1\r\n\r\n"


def refused(host, port):
    """Whether a tunnel through that proxy to the real service is refused."""
    try:
        hosts.CHECKS["http.client.send"]("http.client.send", (SimpleNamespace(host=host, port=port), TUNNEL))
    except RealServiceRefused:
        return True
    return False


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "LOCALHOST.", "::1", "[::1]"])
def test_loopback_has_many_names(monkeypatch, host):
    """All of 127.0.0.0/8 is this machine; only our own port forwards nothing."""
    monkeypatch.delenv(hosts.MARKER, raising=False)
    monkeypatch.setattr("fake_server.hosts.LISTENING_PORTS", {7})

    assert not refused(host, 7)
    assert refused(host, 8)


@pytest.mark.parametrize("host", ["proxy.example", "192.0.2.1", "127.0.0.1.example", ""])
def test_another_machine_is_none_of_ours(monkeypatch, host):
    """Whatever its port is, and whatever the environment."""
    monkeypatch.setenv(hosts.MARKER, "h")
    monkeypatch.setattr("fake_server.hosts.LISTENING_PORTS", {7})

    assert refused(host, 7)


# The hosts of `hosts=`.


@pytest.mark.parametrize(
    ("written", "host", "expected"),
    [
        ("auth.example.com", "auth.example.com", True),
        ("auth.example.com", "AUTH.example。com.", True),
        ("auth.example.com", "www.auth.example.com", False),
        ("auth.example.com:8443", "auth.example.com", True),  # at each port: it is named, so it is never asked
        ("*.example.com", "auth.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
        ("münchen.example", "xn--mnchen-3ya.example", True),
        ("MÜNCHEN.example", "münchen.example", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("localhost", "localhost", False),  # this machine
        ("127.0.0.1:80", "127.0.0.1", False),
    ],
)
def test_a_named_host_is_guarded_until_the_session_ends(guarded, written, host, expected):
    """Like the real ones, once a handle has named it, at whatever port."""
    guarded.install()
    assert not refused_look_up(host)
    guarded.install((written,))
    guarded.install()
    assert refused_look_up(host) is expected
    guarded.uninstall()
    guarded.install()
    assert not refused_look_up(host)


def refused_look_up(host):
    try:
        audit._hook("socket.getaddrinfo", (host, 443, 0, 0, 0))
    except RealServiceRefused:
        return True
    return False


def test_a_proxy_of_the_users_is_kept_from_named_hosts(guarded, monkeypatch):
    """All below a name begin with a dot there; what was before is put back, although it was changed twice."""
    monkeypatch.delenv(hosts.MARKER, raising=False)
    monkeypatch.setenv("NO_PROXY", "mine")
    monkeypatch.delenv("no_proxy", raising=False)
    guarded.install()
    guarded.install(("auth.example.com:8443", "*.example.org", "localhost"))
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"]
    assert os.environ["NO_PROXY"] == "mine,anthropic.com,claude.com,claude.ai,auth.example.com,.example.org"
    guarded.uninstall()
    assert (os.environ["NO_PROXY"], os.environ.get("no_proxy")) == ("mine", None)
