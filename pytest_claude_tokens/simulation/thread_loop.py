"""A loop for a thread that runs one of its own, as dispatchers made of threads do (``asyncio.run`` in each).

It is ``asyncio``'s, but for its selector: where a real one would wait for the operating system, this one gives the
baton away, and comes back for its next timer or for a call from another thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.simulation.loop import NumberedLoop
from pytest_claude_tokens.simulation.thread_record import Stopped

if TYPE_CHECKING:
    from pytest_claude_tokens.simulation.network import Network
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["ThreadLoop"]


class ThreadLoop(NumberedLoop):
    """A loop for one thread. Other threads may run between two rounds of it, and while it is idle."""

    def __init__(self, world: World, network: Network | None = None) -> None:
        super().__init__(world, network)
        self.use_selector(self)
        self._idle: ThreadRecord | None = None

    def select(self, timeout: float | None) -> list[Any]:
        """What the base class asks of its selector: wait so many seconds, or until something happens."""
        record = self.world.me()
        if record is None:  # its world has ended while it was blocked outside
            raise Stopped
        if timeout is not None and timeout <= 0:
            self.world.pause(record, rotate=True)
            return []
        self._idle = record
        try:
            self.world.block(record, "its event loop, in which nothing can go on", timeout)
        finally:
            self._idle = None
        return []

    def close(self) -> None:
        """As usual; tasks that are left, as the world has ended, are closed and not logged."""
        super().close()
        self.close_pending_tasks()

    def wake_up(self) -> None:
        """Another thread has something to do for it."""
        if self._idle is not None:
            self.world.wake(self._idle)
