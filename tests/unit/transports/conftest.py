"""A server for each test, and a loopback listener in front of it."""

from __future__ import annotations

import pytest

from fake_server.transports.sockets import SocketServer
from tests.unit.transports.raw import Watch, a_server


@pytest.fixture
def server():
    return a_server()


@pytest.fixture
def watch(server):
    return Watch(server)


@pytest.fixture
def listener(server):
    with SocketServer(server) as listener:
        yield listener
