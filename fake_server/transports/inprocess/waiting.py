"""How an in-process request waits: in real time here, in simulated time elsewhere."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Timer
from typing import TYPE_CHECKING, Protocol

from fake_server.clock import is_real
from fake_server.genuine import asyncio
from fake_server.transports.trio_tasks import running_trio, wait_in_trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.effects import Wait

__all__ = ["RealWaiter", "Waiter"]


class Waiter(Protocol):
    """Performs the waits of the core. It may return early: the caller then asks the exchange again."""

    def wait(self, wait: Wait) -> None:
        """Wait in the thread of a synchronous client."""
        ...

    async def wait_async(self, wait: Wait) -> None:
        """Wait in the task of an asynchronous client."""
        ...

    def suspended(self) -> float:
        """For how many seconds the caller was suspended so far, without noticing the time that passed."""
        ...


class RealWaiter:
    """Waits in real seconds, under a frozen clock too.

    A wait without a duration returns at once in a thread; a task yields once to its loop, as for a real network.
    """

    def suspended(self) -> float:
        """In real time, whoever is suspended notices afterwards."""
        return 0.0

    def wait(self, wait: Wait) -> None:
        """Block the calling thread."""
        if wait.seconds is None and wait.signal is None:
            return
        woken = Event()
        if wait.signal is not None:
            wait.signal.subscribe(woken.set)
            if wait.signal.fired:  # another thread may have fired it while we subscribed
                return
        woken.wait(wait.seconds)

    async def wait_async(self, wait: Wait) -> None:
        """Suspend the running task, of asyncio or of trio."""
        if (trio := running_trio()) is not None:
            await wait_in_trio(trio, wait)
            return
        if wait.seconds is None and wait.signal is None:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def finish() -> None:
            if not woken.done():
                woken.set_result(None)

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed, and this wait is over with it
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
    """A timer that calls ``wake`` after ``seconds`` of real time; a loop's own timers would freeze with the clock."""
    if is_real("monotonic"):
        return loop.call_later(seconds, wake)
    timer = Timer(seconds, wake)
    timer.daemon = True
    timer.start()
    return timer
