"""Addresses of this machine reach the network beside a router of the user's: the service's own socket may be there."""

from __future__ import annotations

import socket

import httpx
import pytest
import respx
from respx.models import AllMockedAssertionError

from tests.unit.transports.inprocess_world import World


@pytest.fixture
def closed_port():
    """A port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "[::1]"])
def test_every_address_of_this_machine_reaches_the_network(closed_port, host):
    """Nobody is there; what matters is that it was the network that said so, and not respx."""
    with World().interceptor, respx.mock, pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{host}:{closed_port}/")


def test_any_other_address_is_refused_by_respx(closed_port):
    """As without the service."""
    with World().interceptor, respx.mock, pytest.raises(AllMockedAssertionError):
        httpx.get(f"http://192.0.2.1:{closed_port}/")
