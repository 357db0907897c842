"""The end of a history: waits for open requests, then reads stores and searches files a last time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from fake_server.genuine import threading
from fake_server.secrecy import clean
from fake_server.server import GRACE_PERIOD_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from fake_server.events import Event
    from fake_server.server import Server
    from pytest_claude_tokens.handle.leaks import Leaks
    from pytest_claude_tokens.handle.stores import Stores

__all__ = ["STILL_OPEN", "end", "wait_for_open"]

STILL_OPEN = "still open at the end"
"""The journal's error for an operation that did not end in time."""


def wait_for_open(server: Server, seconds: float = GRACE_PERIOD_SECONDS) -> bool:
    """Wait until no operation is open, for at most ``seconds`` of real time. Returns whether one was open."""
    ended = threading.Event()

    def look(event: Event) -> None:
        if not server.open:
            ended.set()

    with server.lock:
        if not server.open or _alone_in_a_loop():
            return False
        server.journal.observers.append(look)
    ended.wait(seconds)
    with server.lock:
        server.journal.observers.remove(look)
    return True


def _alone_in_a_loop() -> bool:
    """Whether this is the only thread, and runs an event loop.

    Then waiting is useless: only a task of that loop could end an operation, and none runs while this thread waits.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or threading.active_count() > 1:
        return False
    try:
        return asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


def end(server: Server, stores: Stores, leaks: Leaks, folder: Path | None) -> None:
    """Abandon open requests, read stores and search files a last time, and write the note ``end``."""
    with server.lock:
        server.abandon(None, STILL_OPEN)
        now = _last_time(server)
    for store in stores:
        store.sample(now=now, final=True)
    if folder is not None:
        leaks.search_folder(str(folder), now=now)
    with server.lock:
        grants: dict[str, Any] = {}
        for grant in server.authority.grants:
            grants[grant.name] = {
                "account": grant.account,
                "setup_token": grant.setup_token,
                "accepts": list(server.authority.accepted(grant, now)),
                "death": grant.died(now),
                "stores": clean([store.name for store in stores if store.grant is grant]),
            }
        stores.closed = True
        server.journal.add("note", "end", data={"grants": grants})


def _last_time(server: Server) -> float:
    """The service's time at the last event.

    Not the present time: if the test froze the time and has unfrozen it, the jump must not expire a login.
    """
    journal = server.journal
    last = journal.events[-1].t if journal.events else 0.0
    return last - journal.time(0.0)
