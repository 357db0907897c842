"""Holds requests until enough of them have come: the simplest way to force an overlap. Sans-IO."""

from __future__ import annotations

from fake_server.effects import Signal, Wait

__all__ = ["HOLD_LIMIT", "Hold"]

HOLD_LIMIT = 30.0
"""Seconds after which a held request goes on, although too few have come."""


class Hold:
    """Holds requests of one kind before the bearer's queue until ``count`` wait; ``waited``: their workers.

    ``limited``: for at most :data:`HOLD_LIMIT` seconds. Else until :meth:`run_out` is called: in simulated time seconds
    say nothing about whether more can come.
    """

    def __init__(self, target: str, count: int, *, limited: bool = True) -> None:
        self.target = target
        self.count = count
        self.limited = limited
        self.waited: list[str] = []
        self.ran_out: bool = False
        self._signal = Signal()
        self._deadline: float | None = None

    @property
    def open(self) -> bool:
        """Whether requests are still held."""
        return not self._signal.fired

    def join(self, actor: str, now: float) -> None:
        """Add a request that has come; number ``count`` releases them all."""
        self.waited.append(actor)
        if self._deadline is None and self.limited:
            self._deadline = now + HOLD_LIMIT
        if len(self.waited) >= self.count:
            self.release()

    def leave(self, actor: str) -> None:
        """Remove a held request whose client has disconnected."""
        if self.open:
            self.waited.remove(actor)

    def poll(self, now: float) -> Wait | None:
        """``None`` when released, else the wait before the next :meth:`poll`."""
        if self._signal.fired or not self.waited:
            return None
        if self._deadline is None:
            return Wait("hold", None, self._signal)
        if now >= self._deadline:
            self.run_out()
            return None
        return Wait("hold", self._deadline - now, self._signal)

    def run_out(self) -> None:
        """Let all held requests go on, although too few have come."""
        self.ran_out = True
        self.release()

    def release(self) -> None:
        """Let all held requests go on."""
        self._signal.fire()
