"""The process's one audit hook (PEP 578): calls checks, which may refuse, and listeners, by event.

It imports neither: the guard passes the checks in, and other packages subscribe listeners. An audit hook can't be
removed, so this one looks each event up in a table, which is empty while the guard is off.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fake_server.genuine import threading

__all__ = ["Args", "Check", "muted", "start", "stop", "subscribe", "unsubscribe"]

Args = tuple[Any, ...]
Check = Callable[[str, Args], None]
"""Called with an audit event and its arguments, in the thread of the event. An exception that it raises stops the
operation.
"""

_lock = threading.RLock()
_local = threading.local()
_installed = False
_checks: Mapping[str, Sequence[Check]] | None = None
"""The checks of each event; ``None`` while the hook does nothing."""
_listeners: dict[str, list[Check]] = {}
_table: dict[str, tuple[Check, ...]] = {}
"""Checks and listeners of each event, for the hook. Changed key by key, as other threads read it meanwhile."""


def start(checks: Mapping[str, Sequence[Check]]) -> None:
    """From now on until :func:`stop`, run these checks at their events, in this order, and then the listeners."""
    global _checks, _installed  # noqa: PLW0603 - there is one audit hook per process
    with _lock:
        _checks = checks
        _fill_table()
        if not _installed:
            _installed = True
            sys.addaudithook(_hook)


def stop() -> None:
    """Ignore all events from now on."""
    global _checks  # noqa: PLW0603 - as above
    with _lock:
        _checks = None
        _fill_table()


def subscribe(events: Sequence[str], listener: Check) -> None:
    """Call ``listener(event, args)`` at each of these audit events, in the thread in which they happen.

    Only between :func:`start` and :func:`stop`; not for events that the listener causes itself, nor inside
    :func:`muted`.
    """
    with _lock:
        for event in events:
            _listeners.setdefault(event, []).append(listener)
        _fill_table()


def unsubscribe(events: Sequence[str], listener: Check) -> None:
    """Undo :func:`subscribe`."""
    with _lock:
        for event in events:
            _listeners[event].remove(listener)
        _fill_table()


@contextmanager
def muted() -> Iterator[None]:
    """In the block, this thread's events don't reach listeners: for file operations and processes of our own.

    Without it, the simulation would switch threads at the plugin's own file operations, and schedules would depend on
    their number. Checks still run.
    """
    before = getattr(_local, "muted", False)
    _local.muted = True
    try:
        yield
    finally:
        _local.muted = before


def _hook(event: str, args: Args, checks_of: Callable[[str], tuple[Check, ...] | None] = _table.get) -> None:
    # The table is bound: an interpreter that ends empties this module before the last objects close their files.
    checks = checks_of(event)
    if checks is not None:
        for check in checks:
            check(event, args)


def _fill_table() -> None:
    wanted: dict[str, tuple[Check, ...]] = {}
    if _checks is not None:
        wanted = {event: tuple(checks) for event, checks in _checks.items()}
        for event, listeners in _listeners.items():
            if listeners:
                wanted[event] = (*wanted.get(event, ()), _notify)
    for event in set(_table) - set(wanted):
        del _table[event]
    _table.update(wanted)


def _notify(event: str, args: Args) -> None:
    if not getattr(_local, "muted", False):
        with muted():
            for listener in tuple(_listeners[event]):
                listener(event, args)
