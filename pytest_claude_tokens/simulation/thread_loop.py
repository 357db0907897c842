"""An event loop for a thread that runs its own, as threaded dispatchers do (``asyncio.run`` in each thread).

It is ``asyncio``'s loop with another selector: where a real selector would wait for the operating system, this one
hands the baton on, and gets it back for the loop's next timer or for a call from another thread.
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
        world.heaps.append(self.timers)
        self._idle: ThreadRecord | None = None

    def select(self, timeout: float | None) -> list[Any]:
        """Called by the base class as its selector: wait ``timeout`` simulated seconds, or until :meth:`wake_up`."""
        record = self.world.me()
        if record is None:  # the world ended while the thread was blocked outside
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
        """As usual; tasks that remain because the world has ended are closed and not logged."""
        super().close()
        self.close_pending_tasks()

    def wake_up(self) -> None:
        """Called when another thread has scheduled a callback on this loop."""
        if self._idle is not None:
            self.world.wake(self._idle)
