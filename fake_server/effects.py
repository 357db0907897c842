"""The requests of the core to a transport, as values.

The core never waits and never sends. An exchange yields one of these and is resumed when the transport has done it:
:class:`Wait` with an event loop, a condition or a simulated clock; :class:`Start` and :class:`Piece` on a socket or
into a response object; :class:`Break` as that transport's way for a connection to go wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Break", "BreakHow", "Effect", "Piece", "Signal", "Start", "Wait", "WaitWhy"]


class Signal:
    """A one-shot event without a loop or a lock: a transport subscribes a callback that wakes its waiter.

    Fired under the server's lock, so a callback must neither block nor call back into the server.
    """

    __slots__ = ("_callbacks", "fired")

    def __init__(self) -> None:
        self.fired: bool = False
        self._callbacks: list[Callable[[], object]] = []

    def fire(self) -> None:
        """Wake every subscriber, once."""
        if not self.fired:
            self.fired = True
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()

    def subscribe(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when fired; at once if it has already fired."""
        if self.fired:
            callback()
        else:
            self._callbacks.append(callback)


WaitWhy = Literal["request", "reply", "piece", "hold", "gate", "latency", "delay", "hang"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until ``signal`` fires or ``seconds`` have passed, whichever comes first.

    ``until``: when the client gives up, on the server's stopwatch, if it is known; ``needs``: how many seconds the
    service will take for the request after this wait.

    ``request``, ``reply`` and ``piece`` mark the moments in which a real network would take time: they have no
    duration, and a transport without a schedule goes on at once.
    """

    why: WaitWhy
    seconds: float | None = None
    signal: Signal | None = None
    until: float | None = None
    needs: float = 0.0


@dataclass(frozen=True, slots=True)
class Start:
    """Send the status and the headers. ``streamed``: the pieces that follow must be sent one by one."""

    status: int
    headers: tuple[tuple[str, str], ...]
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Send a part of the body; ``last`` ends the exchange."""

    data: bytes = field(repr=False)
    last: bool


BreakHow = Literal["reset", "lost", "hang", "garbage", "truncated"]


@dataclass(frozen=True, slots=True)
class Break:
    """End the exchange without a complete reply.

    ``reset``: reset the connection. ``lost``: close it before any byte of the reply. ``hang``: send nothing until the
    client gives up. ``garbage``: send ``data``, which is not HTTP, then close. ``truncated``: send the status, the
    headers and a part of the body, if not sent already, then close.
    """

    how: BreakHow
    data: bytes = field(default=b"", repr=False)
    start: Start | None = None


Effect = Wait | Start | Piece | Break
