"""Which proxy is one of ours: on loopback by any of its names, at a port on which this process serves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_claude_tokens.guard import RealServiceRefused, hosts

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
