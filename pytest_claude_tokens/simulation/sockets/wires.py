"""All connections in memory of one run, and how a thread waits for some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_server.transports.inprocess import HANG_TIMEOUT_SECONDS
from pytest_claude_tokens.simulation.sockets.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_claude_tokens.simulation.network import Network
    from pytest_claude_tokens.simulation.sockets.far_end import FarEnd
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["Wires"]

_RESOLUTION_SECONDS = 1e-9


class Wires:
    """The connections of the clients of one run that block."""

    def __init__(self, world: World, network: Network) -> None:
        self.world = world
        self.network = network
        self.all: list[Wire] = []
        self._neglected: list[Wire] = []
        """Those whose client has given up waiting and has not closed: their requests go on without it."""
        self._orphans: list[tuple[Wire, str | None]] = []
        self._serving = False

    def connect(self, sock: Any, host: str | bytes, port: int) -> bool:
        """Connect ``sock`` in memory; ``False``: nothing there is ours. Raises ``ConnectionRefusedError``."""
        name = self.network.host_at(host, port)
        if name is None:
            return False
        self.all.append(Wire(self, sock, name, (host, port)))
        return True

    # Waiting.

    def serve(
        self,
        record: ThreadRecord,
        wires: Sequence[Wire],
        done: Callable[[], object],
        seconds: float | None,
        *,
        hurried: bool,
    ) -> bool:
        """Serve ``wires`` in the calling thread until ``done()``; ``False`` if that takes longer than ``seconds``.

        Unless ``hurried`` these are seconds of a client's own time-out, which the search never lets pass by itself:
        only such waits count that the test asks for.
        """
        world, left = self.world, seconds
        for wire in wires:
            wire.waiting.append(record)
            if wire in self._neglected:
                self._neglected.remove(wire)
        try:
            while not done():
                if (far := self._due(wires)) is not None:
                    world.pause(record, rotate=True)
                    self.run(far.step)
                    continue
                if left is None and any(wire.far.hangs for wire in wires):
                    left = HANG_TIMEOUT_SECONDS
                if left is not None and left <= _RESOLUTION_SECONDS:
                    return self._give_up(record, wires, seconds) and bool(done())
                counts = hurried or not wires[0].far.unhurried
                begun, limit = world.now, self._limit(wires)
                if left is not None and counts:
                    limit = left if limit is None else min(limit, left)
                world.block(record, self._why(wires), limit)
                if left is not None and counts:
                    left -= world.now - begun
            return True
        finally:
            for wire in wires:
                wire.waiting.remove(record)

    def _give_up(self, record: ThreadRecord, wires: Sequence[Wire], seconds: float | None) -> bool:
        """The time is up. Whoever did not want to wait lets the others go on, where something can still come."""
        if seconds is None:
            for wire in wires:
                if wire.far.hangs:
                    wire.break_off(TimeoutError)
        elif seconds <= 0 and any(wire.far.busy for wire in wires):
            self.world.pause(record, rotate=True)
        return True

    def _due(self, wires: Sequence[Wire]) -> FarEnd | None:
        now = self.world.now
        for wire in (*wires, *self._neglected):
            if wire.far.due(now):
                return wire.far
        return None

    def _limit(self, wires: Sequence[Wire]) -> float | None:
        """For how long there is nothing to do."""
        timers = [wire.far.next_timer() for wire in (*wires, *self._neglected)]
        return min((when - self.world.now for when in timers if when is not None), default=None)

    def _why(self, wires: Sequence[Wire]) -> str:
        if len(wires) == 1:
            far = wires[0].far
            return f"the {far.why} of the fake service" if far.busy else f"data from {wires[0].host}"
        return "data on one of its sockets"

    def run(self, step: Callable[[], object]) -> Any:
        """Let the service take a step; what is dropped meanwhile is parted from it afterwards."""
        outer, self._serving = self._serving, True
        try:
            return step()
        finally:
            self._serving = outer
            while self._orphans and not outer:
                self._part(*self._orphans.pop(0))

    # The end of a connection.

    def neglect(self, wire: Wire) -> None:
        """Its client has given up waiting: go on with its request beside those that others wait for."""
        if wire.far.busy:
            self._neglected.append(wire)

    def forget(self, wire: Wire, error: str | None) -> None:
        """Its client is gone. The collector calls this at any time: in the middle of a step it has to wait."""
        if wire in self._neglected:
            self._neglected.remove(wire)
        if wire in self.all:
            self.all.remove(wire)
            if self._serving:
                self._orphans.append((wire, error))
            else:
                self.run(lambda: self._part(wire, error))

    def _part(self, wire: Wire, error: str | None) -> None:
        connection = wire.far.connection
        if error is not None:
            connection.leave(error)
        connection.connection_lost(None)

    def close(self) -> None:
        """The run is over: nothing is served any more."""
        self.all.clear()
        self._neglected.clear()
