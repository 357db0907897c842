"""What the guard tells a handle while it is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_server.genuine import os

if TYPE_CHECKING:
    from fake_server.server import Server
    from pytest_claude_tokens.handle.leaks import Leaks

__all__ = ["Watcher"]


class Watcher:
    """The handle's ear at the guard; ``ended``: the history has, and nothing is added to it."""

    def __init__(self, server: Server, leaks: Leaks) -> None:
        self._server = server
        self._leaks = leaks
        self.ended = False

    def started(self, arguments: list[str]) -> None:
        """Called before a process is started: journals live tokens in its arguments."""
        self._leaks.search("argv", os.path.basename((*arguments, "")[0]), arguments)

    def refused(self, what: str, host: str | None, remedy: str) -> None:
        """Called where something is refused: journals it, whatever the client does with the error."""
        from fake_server.transports.senders import sender  # late: loads asyncio, which a small suite does without

        if not self.ended:
            self._server.refused(sender(), remedy, what=None if host else what, host=host)
