"""The dependencies of a handle: its sources of time, waits and traffic. Only the search and the plugin replace them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from fake_server.clock import Clock, stopwatch
from fake_server.genuine import os

if TYPE_CHECKING:
    from fake_server.core.journal import Sink
    from fake_server.server import Server
    from fake_server.transports.inprocess import Waiter
    from fake_server.transports.loopback.host import Namer, WaitHook
    from fake_server.transports.sockets import SocketServer
    from pytest_claude_tokens.handle.store_reader import Ask
    from pytest_claude_tokens.judge.violations import Unknown, Unserved, Violation
    from pytest_claude_tokens.simulation.world import World

__all__ = ["Outside", "Recorder", "Runtime", "call_here"]

T = TypeVar("T")


class Recorder(Protocol):
    """Receives the events of one handle's life, and each finding just before it is raised or returned."""

    def on_open(self) -> None:
        """Called when the handle answers and watches."""

    def on_close(self) -> None:
        """Called before the handle undoes everything, even if it was never opened."""

    def on_finding(self, found: Violation | Unserved | Unknown) -> None:
        """Called before ``found`` is raised or returned."""


class Lender(Protocol):
    """Lends a loopback server that outlives the handle."""

    def lend(self, server: Server, namer: Namer, start: Callable[[], SocketServer], outside: Outside) -> SocketServer:
        """The server, which serves ``server`` until that is given back."""

    def give_back(self, server: Server) -> None:
        """Nobody is connected to ``server`` any more."""


class Outside(Protocol):
    """Calls a function, somewhere, and returns what it returns."""

    def __call__(self, call: Callable[[], T], /) -> T: ...


def call_here(call: Callable[[], T], /) -> T:
    """In the caller's own thread and time."""
    return call()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The dependencies of one handle; the defaults are real time and the traffic of this process."""

    clock: Clock = field(default_factory=Clock)
    """The service's clock, in POSIX seconds; it expires tokens and stamps events."""

    stopwatch: Callable[[], float] = field(default_factory=stopwatch)
    """Reads monotonic seconds, which measure the waits in the bearers' queues."""

    waiter: Waiter | None = None
    """Performs the waits of requests answered in process; ``None``: in real time."""

    namespace: str = field(default_factory=lambda: os.urandom(8).hex())
    """Seeds the tokens: two handles with the same namespace mint the same tokens."""

    intercept: bool = True
    """Whether the handle intercepts this process's httpx requests; in a search one interceptor serves all runs."""

    sink: Sink | None = None
    """A text file to which each event is written at once."""

    ask: Ask | None = None
    """Calls a store's callable; ``None``: in a helper thread, so that it can't block a request."""

    wait_hook: WaitHook | None = None
    """May replace each wait of a request over sockets: a search with processes holds requests there."""

    namer: Namer | None = None
    """Says which worker sent a request over sockets; ``None``: the request itself does, or its connection."""

    wait_for_open: Callable[[Server], object] | None = None
    """Waits for requests that are still open when the body has ended; ``None``: in real time."""

    recorder: Recorder | None = None
    """Receives each finding."""

    lender: Lender | None = None
    """Lends its loopback server; ``None``: the handle starts one of its own."""

    outside: Outside = call_here
    """Calls what must not be simulated: starts servers, and makes their certificates."""

    @classmethod
    def simulated(
        cls, world: World, waiter: Waiter, *, lender: Lender | None = None, namer: Namer | None = None
    ) -> Runtime:
        """For a simulated world: the runner intercepts requests, and waits for open ones while the world still runs."""
        from pytest_claude_tokens.simulation.threads import outside

        return cls(
            clock=Clock(world.wall, kind="virtual"),
            stopwatch=lambda: world.now,
            waiter=waiter,
            namespace="simulated",
            intercept=False,
            ask=world.ask,
            wait_for_open=lambda server: None,
            outside=partial(outside, world),
            lender=lender,
            namer=namer,
        )
