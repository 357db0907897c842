"""The life of one connection, as one table: from the server's side, what may come next.

Two rules:

1. The table is the specification: ``(state, event) -> state``. A pair that it does not allow is ``None``: a defect of
   the server, never of a client, which raises and changes nothing.
2. What a client sends decides nothing here by itself. Its bytes wait in the parser and in the queue until the state
   is ``IDLE``: one request is served at a time, in the order in which they came (RFC 9112 section 9.3.2).

Whether the client has ended its sending side (a half-close) is no state: it may happen in any of them, changes nothing
about the reply that is under way, and only ends the connection when it would fall idle.
"""

from __future__ import annotations

from enum import Enum
from itertools import product

__all__ = ["BUSY", "OVER", "TABLE", "ConnectionEvent", "ConnectionState", "IllegalStep", "diagram"]


class ConnectionState(Enum):
    """Where a connection is in its life. Compared and hashed by identity, which is what its requests can afford."""

    IDLE = "idle"  # waits for a request
    SERVING = "serving"  # an exchange is under way, and no byte of the final reply has been sent
    REPLYING = "replying"  # the head and a part of the body have been sent
    ANSWERED = "answered"  # the last byte has been sent, and the exchange has not been closed yet
    HANGING = "hanging"  # a request that is never answered: it waits for the client to give up
    REFUSED = "refused"  # the client was told why, and what it still sends is thrown away
    CLOSED = "closed"  # nothing more is sent or read

    __hash__ = object.__hash__


class ConnectionEvent(Enum):
    """What can happen to a connection."""

    REQUEST = "request"  # a request for the service begins its exchange
    LOCAL = "local"  # a local handler has answered a request, in full
    REFUSE = "refuse"  # a request that can't be served, or is not HTTP
    PIECE = "piece"  # a piece of the reply is sent, with the head before the first one; more will follow
    LAST = "last"  # the last piece is sent
    END = "end"  # the exchange is over; before its last piece: it was given up elsewhere, and no reply will come
    HANG = "hang"  # the injected fault of a request that is never answered
    BREAK = "break"  # an injected fault ends the connection: reset, lost, garbage or truncated
    CLOSE = "close"  # the server closes, as no further request is wanted
    LOSE = "lose"  # the connection is gone, or is given up by its listener

    __hash__ = object.__hash__


_S, _E = ConnectionState, ConnectionEvent

BUSY = frozenset((_S.SERVING, _S.REPLYING, _S.ANSWERED, _S.HANGING))
"""The states in which an exchange is under way."""

OVER = frozenset((_S.REFUSED, _S.CLOSED))
"""The states in which no request is taken any more."""

TABLE: dict[tuple[ConnectionState, ConnectionEvent], ConnectionState | None] = {
    **dict.fromkeys(product(_S, _E)),
    (_S.IDLE, _E.REQUEST): _S.SERVING,
    (_S.IDLE, _E.LOCAL): _S.ANSWERED,
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
"""Where each event leads; all pairs are in it, and the first line makes those illegal that no other line names."""


class IllegalStep(RuntimeError):
    """An event that can't happen in that state: a defect of the server, never of a client."""

    def __init__(self, state: ConnectionState, event: ConnectionEvent) -> None:
        super().__init__(f"{event.value} of a connection that is {state.value}")


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    for (state, event), following in TABLE.items():
        if following is not None:
            lines.append(f"    {state.value} --> {following.value}: {event.value}")
    return "\n".join(lines) + "\n"
