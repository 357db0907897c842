"""The service in the same process: answers httpx and httpx2 requests to its hosts through respx, without sockets.

:class:`Interceptor` installs the router, :mod:`~fake_server.transports.inprocess.routing` decides whether the user's
respx route, the service or the network answers, :mod:`~fake_server.transports.inprocess.driving` takes one request
through its exchange, and a :class:`~fake_server.transports.inprocess.waiting.Waiter` knows how to wait.
"""

from __future__ import annotations

from fake_server.transports.inprocess.cached_clients import cached_client_setup
from fake_server.transports.inprocess.driving import HANG_TIMEOUT_SECONDS, Destination
from fake_server.transports.inprocess.routing import Interceptor, MissingExtra
from fake_server.transports.inprocess.shared_tls import shared_ssl_context
from fake_server.transports.inprocess.waiting import RealWaiter, Waiter
from fake_server.transports.trio_tasks import running_trio, wait_in_trio

__all__ = [
    "HANG_TIMEOUT_SECONDS",
    "Destination",
    "Interceptor",
    "MissingExtra",
    "RealWaiter",
    "Waiter",
    "cached_client_setup",
    "running_trio",
    "shared_ssl_context",
    "wait_in_trio",
]
