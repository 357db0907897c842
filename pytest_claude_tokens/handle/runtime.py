"""The seams of a handle: where its time, its waits and its traffic come from. For the search and the plugin only."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol

from fake_server.clock import Clock, stopwatch

if TYPE_CHECKING:
    from fake_server.server import Server
    from fake_server.transports.inprocess import Waiter
    from fake_server.transports.loopback.host import WaitHook
    from pytest_claude_tokens.handle.store_reader import Ask
    from pytest_claude_tokens.judge.violations import Unknown, Violation
    from pytest_claude_tokens.simulation.world import World

__all__ = ["Recorder", "Runtime"]


class Recorder(Protocol):
    """Hears of the life of one handle, and of each finding just before it is raised or handed out."""

    def on_open(self) -> None:
        """The handle answers and watches."""

    def on_close(self) -> None:
        """It is about to undo all that it did; a handle that was never opened is closed, too."""

    def on_finding(self, found: Violation | Unknown) -> None:
        """``found`` is about to be raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a handle runs on, by default real time and the traffic of this process. One for each handle."""

    clock: Clock = field(default_factory=Clock)
    """The service's clock, in POSIX seconds; it expires tokens and stamps events."""

    stopwatch: Callable[[], float] = field(default_factory=stopwatch)
    """Reads monotonic seconds, by which the waits in the bearers' queues are measured."""

    waiter: Waiter | None = None
    """Makes the waits of requests that are answered in process; ``None``: they wait in real time."""

    namespace: str = field(default_factory=lambda: os.urandom(8).hex())
    """Seeds the tokens: two handles with one namespace mint the same ones."""

    intercept: bool = True
    """Whether requests of httpx in this process are answered here; a search has one interceptor for all runs."""

    sink: IO[str] | None = None
    """A text file that gets each event at once."""

    ask: Ask | None = None
    """Calls a callable that stands for a store; ``None``: in a helper thread, so that it can't block a request."""

    wait_hook: WaitHook | None = None
    """Has a say in each wait of a request over sockets: the search of processes holds requests there."""

    wait_for_open: Callable[[Server], object] | None = None
    """Gives requests that are open when the body has ended the time to end; ``None``: in real time."""

    recorder: Recorder | None = None
    """Told of what is found."""

    @classmethod
    def simulated(cls, world: World, waiter: Waiter) -> Runtime:
        """In the time of a simulated world; the runner intercepts, and waits for open requests while the world runs."""
        return cls(
            clock=Clock(world.wall, kind="virtual"),
            stopwatch=lambda: world.now,
            waiter=waiter,
            namespace="simulated",
            intercept=False,
            ask=world.ask,
            wait_for_open=lambda server: None,
        )
