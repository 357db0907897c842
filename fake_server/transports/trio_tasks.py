"""Waiting in a task of trio, for clients of httpx that run on it. trio is never imported here."""

from __future__ import annotations

import sys
from asyncio import current_task
from contextlib import suppress
from threading import Timer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_server.effects import Wait

__all__ = ["running_trio", "wait_in_trio"]

_modules = sys.modules


def running_trio() -> Any:
    """The module ``trio`` if a task of it calls, else ``None``: an asyncio task calls, or none at all.

    asyncio is asked first: a loop of it may run inside of trio, and trio may be the guest of such a loop.
    """
    trio = _modules.get("trio")
    if trio is None:
        return None
    with suppress(RuntimeError):
        if current_task() is not None:
            return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    return trio


async def wait_in_trio(trio: Any, wait: Wait) -> None:
    """Suspend the calling task for real seconds, whatever trio's own clock says, or until the signal fires."""
    if wait.seconds is None and wait.signal is None:
        await trio.lowlevel.checkpoint()
        return
    token, woken = trio.lowlevel.current_trio_token(), trio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # trio's run is over, and this wait with it
            token.run_sync_soon(woken.set)

    if wait.signal is not None:
        wait.signal.subscribe(wake)
    timer = None
    if wait.seconds is not None:
        timer = Timer(wait.seconds, wake)
        timer.daemon = True
        timer.start()
    try:
        await woken.wait()
    finally:
        if timer is not None:
            timer.cancel()
