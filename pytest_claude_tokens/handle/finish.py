"""The end of a history: what is still open, what is in the stores, what lies about."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from fake_server.server import GRACE_PERIOD_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from fake_server.events import Event
    from fake_server.server import Server
    from pytest_claude_tokens.handle.leaks import Leaks
    from pytest_claude_tokens.handle.stores import Stores

__all__ = ["STILL_OPEN", "end", "wait_for_open"]

STILL_OPEN = "still open at the end"
"""What the journal says of an operation that took longer."""


def wait_for_open(server: Server, seconds: float = GRACE_PERIOD_SECONDS) -> bool:
    """Wait until no operation is open, but no longer than so many seconds of real time. Says whether there was one."""
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
    """Whether whoever waits here is in an event loop, and all that could end an operation is a task of that loop."""
    asyncio = sys.modules.get("asyncio.events")
    return asyncio is not None and asyncio._get_running_loop() is not None and threading.active_count() == 1  # noqa: SLF001 - the public one raises


def end(server: Server, stores: Stores, leaks: Leaks, folder: Path | None) -> None:
    """Give up what is open, look at stores and files a last time, and write the note ``end``."""
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
                "stores": [store.name for store in stores if store.grant is grant],
            }
        stores.closed = True
        server.journal.note("end", grants=grants)


def _last_time(server: Server) -> float:
    """The service's time when something last happened.

    Not the present: the test may have frozen the time, and have let go of it already, which must not expire a login.
    """
    journal = server.journal
    last = journal.events[-1].t if journal.events else 0.0
    return last - journal.time(0.0)
