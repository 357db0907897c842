"""``socket``, ``ssl`` and ``select`` of the standard library for threads of a world, so that a client that blocks works
unchanged: connections to the service are made in memory, and waited for in simulated time.

``wires`` are all connections of one run, ``wire`` is a client's end of one, ``far_end`` the service's; ``methods``,
``tls`` and ``polling`` are what the standard library's names do meanwhile.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fake_server.genuine import socket
from pytest_claude_tokens.simulation.internals import attributes_set
from pytest_claude_tokens.simulation.sockets.methods import LOOK_UPS, methods
from pytest_claude_tokens.simulation.sockets.polling import POLLS, selectors_simulated
from pytest_claude_tokens.simulation.sockets.tls import tls_simulated
from pytest_claude_tokens.simulation.sockets.wires import Wires

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FUNCTIONS", "Wires", "sockets_simulated"]

FUNCTIONS: list[tuple[Any, Any]] = [*LOOK_UPS, *POLLS]
"""Each function of the standard library with what stands for it in threads of a world."""


@contextmanager
def sockets_simulated() -> Iterator[None]:
    """In the block, sockets of threads of the active world can be connected in memory."""
    with attributes_set(socket.socket, methods()), tls_simulated(), selectors_simulated():
        yield
