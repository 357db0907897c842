"""The states of one connection, seen from the server, as one table.

Two rules:

1. The table is the specification: ``(state, event) -> state``. A forbidden pair is ``None``; its event raises and
   changes nothing. It is a defect of the server, never of a client.
2. Data from a client is not an event. It waits in the parser and in the queue until the state is ``IDLE``: one
   request is served at a time, in the order in which they came (RFC 9112 section 9.3.2).

A half-close (the client has shut down its sending side) is not a state: it may happen in any state, does not affect the
reply under way, and only closes the connection when it would become idle.
"""

from __future__ import annotations

from enum import Enum
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BUSY", "OVER", "TABLE", "ConnectionEvent", "ConnectionState", "IllegalStep", "diagram"]


class ConnectionState(Enum):
    """The state of a connection. Compared and hashed by identity, for speed: each request looks states up."""

    IDLE = "idle"  # waits for a request
    SERVING = "serving"  # an exchange is under way, and no byte of the final reply has been sent
    REPLYING = "replying"  # the head and a part of the body have been sent, or a local handler's reply is being sent
    ANSWERED = "answered"  # the last byte has been sent, but the exchange is not closed yet
    HANGING = "hanging"  # a request that is never answered: it waits for the client to give up
    REFUSED = "refused"  # the refusal was sent, and further data from the client is discarded
    CLOSED = "closed"  # nothing more is sent or read

    __hash__: Callable[[object], int] = object.__hash__  # type: ignore[assignment]  # mypy has the bound one in mind


class ConnectionEvent(Enum):
    """The events of a connection."""

    REQUEST = "request"  # a request for the service begins its exchange
    LOCAL = "local"  # a local handler begins to answer a request
    REFUSE = "refuse"  # a request can't be served, or is not HTTP
    PIECE = "piece"  # a piece of the reply is sent (the first with the head), and more will follow
    LAST = "last"  # the last piece is sent
    END = "end"  # the exchange is over; before the last piece: it was abandoned elsewhere, without a reply
    HANG = "hang"  # an injected fault: the request is never answered
    BREAK = "break"  # an injected fault ends the connection: reset, lost, garbage or truncated
    CLOSE = "close"  # the server closes the connection, as no further request is expected
    LOSE = "lose"  # the connection is lost, or abandoned by its listener

    __hash__: Callable[[object], int] = object.__hash__  # type: ignore[assignment]  # mypy has the bound one in mind


_S, _E = ConnectionState, ConnectionEvent

BUSY = frozenset((_S.SERVING, _S.REPLYING, _S.ANSWERED, _S.HANGING))
"""The states in which an exchange is under way."""

OVER = frozenset((_S.REFUSED, _S.CLOSED))
"""The states in which no more requests are accepted."""

TABLE: dict[tuple[ConnectionState, ConnectionEvent], ConnectionState | None] = {
    **dict.fromkeys(product(_S, _E)),
    (_S.IDLE, _E.REQUEST): _S.SERVING,
    (_S.IDLE, _E.LOCAL): _S.REPLYING,
    (_S.IDLE, _E.REFUSE): _S.REFUSED,
    (_S.IDLE, _E.CLOSE): _S.CLOSED,
    (_S.IDLE, _E.LOSE): _S.CLOSED,
    (_S.SERVING, _E.PIECE): _S.REPLYING,
    (_S.SERVING, _E.LAST): _S.ANSWERED,
    (_S.SERVING, _E.END): _S.CLOSED,
    (_S.SERVING, _E.HANG): _S.HANGING,
    (_S.SERVING, _E.BREAK): _S.CLOSED,
    (_S.SERVING, _E.LOSE): _S.CLOSED,
    (_S.REPLYING, _E.PIECE): _S.REPLYING,
    (_S.REPLYING, _E.LAST): _S.ANSWERED,
    (_S.REPLYING, _E.END): _S.CLOSED,
    (_S.REPLYING, _E.LOSE): _S.CLOSED,
    (_S.ANSWERED, _E.END): _S.IDLE,
    (_S.ANSWERED, _E.LOSE): _S.CLOSED,
    (_S.HANGING, _E.LOSE): _S.CLOSED,
    (_S.REFUSED, _E.LOSE): _S.CLOSED,
    (_S.CLOSED, _E.LOSE): _S.CLOSED,
}
"""The next state for every pair. The first line makes every pair illegal; the others list the legal ones."""


class IllegalStep(RuntimeError):
    """An event that is illegal in that state: a defect of the server, never of a client."""

    def __init__(self, state: ConnectionState, event: ConnectionEvent) -> None:
        super().__init__(f"{event.value} of a connection that is {state.value}")


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    for (state, event), following in TABLE.items():
        if following is not None:
            lines.append(f"    {state.value} --> {following.value}: {event.value}")
    return "\n".join(lines) + "\n"
