"""How an in-process request waits: in real time here, in simulated time elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from threading import Event, Timer
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.effects import Wait

__all__ = ["RealWaiter", "Waiter"]


class Waiter(Protocol):
    """Waits for what the core asks for. Returning early is allowed: the caller asks the exchange again."""

    def wait(self, wait: Wait) -> None:
        """Wait in the thread of a synchronous client."""
        ...

    async def wait_async(self, wait: Wait) -> None:
        """Wait in the task of an asynchronous client."""
        ...


class RealWaiter:
    """Waits in real seconds, under a frozen clock too.

    A moment without a duration is none for a thread; a task gives way once, as it would for a real network.
    """

    def wait(self, wait: Wait) -> None:
        """Block the calling thread."""
        if wait.seconds is None and wait.signal is None:
            return
        woken = Event()
        if wait.signal is not None:
            wait.signal.subscribe(woken.set)
            if wait.signal.fired:  # it may have fired while we subscribed, in another thread
                return
        woken.wait(wait.seconds)

    async def wait_async(self, wait: Wait) -> None:
        """Suspend the running task."""
        if wait.seconds is None and wait.signal is None:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def finish() -> None:
            if not woken.done():
                woken.set_result(None)

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed, and the future of this wait with it
                loop.call_soon_threadsafe(finish)

        if wait.signal is not None:
            wait.signal.subscribe(wake)
            if wait.signal.fired:
                wake()
        timer = None if wait.seconds is None else _timer(loop, wait.seconds, wake)
        try:
            await woken
        finally:
            if timer is not None:
                timer.cancel()


def _timer(loop: asyncio.AbstractEventLoop, seconds: float, wake: Callable[[], None]) -> asyncio.TimerHandle | Timer:
    """Something that calls ``wake`` after ``seconds`` of real time. The loop's timers follow ``time.monotonic``."""
    freezegun = sys.modules.get("freezegun.api")
    if time.monotonic is getattr(freezegun, "real_monotonic", time.monotonic):
        return loop.call_later(seconds, wake)
    timer = Timer(seconds, wake)
    timer.daemon = True
    timer.start()
    return timer
