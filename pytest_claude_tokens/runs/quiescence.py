"""Quiescence: nothing more will happen by itself, as every living client waits for a held request or sleeps.

It is read from ``/proc``: the state and the CPU time of each thread of each process in a group. On a machine without
``/proc``, a period without requests counts as quiescence.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fake_server.genuine import time
from pytest_claude_tokens.processes import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["ASLEEP", "groups_state", "wait_for_quiescence"]

ASLEEP = frozenset("SIZXTt")
"""Letters (``proc(5)``) for states of a thread that doesn't run: asleep, idle, ended, stopped."""
_SAMPLES = 4
"""Consecutive samples that must be equal."""
_POLL_INTERVAL_SECONDS = 0.004
_BLIND_POLL_INTERVAL_SECONDS = 0.1
"""The interval without ``/proc``, where only requests to the service show that a process runs."""

ThreadStates = tuple[tuple[int, str, int], ...]


def groups_state(groups: Iterable[int]) -> ThreadStates:
    """Id, state and used clock ticks of every thread in the process groups."""
    wanted = set(groups)
    found = []
    for process in procfs.process_ids():
        with suppress(OSError):  # it has just ended
            if procfs.read_stat(process).group in wanted:
                found += [_thread(process, thread) for thread in procfs.thread_ids(process)]
    return tuple(sorted(found))


def _thread(process: int, thread: int) -> tuple[int, str, int]:
    stat = procfs.read_stat(process, thread)
    return thread, stat.state, stat.ticks


def wait_for_quiescence(groups: Callable[[], list[int]], events: Callable[[], int], deadline: float) -> bool:
    """Wait until nothing changes any more; ``False`` if ``deadline`` (of ``time.monotonic``) comes first.

    ``groups``: the living process groups; ``events``: a number that changes when anything happens at the service.
    """
    last: tuple[ThreadStates, int] | None = None
    same = 0
    while time.monotonic() < deadline:
        living = groups()
        if not living:
            return True
        seen = (groups_state(living) if procfs.is_available() else (), events())
        asleep = all(state in ASLEEP for _, state, _ in seen[0])
        same = same + 1 if seen == last and asleep else 0
        if same >= _SAMPLES:
            return True
        last = seen
        time.sleep(_POLL_INTERVAL_SECONDS if seen[0] else _BLIND_POLL_INTERVAL_SECONDS)
    return False
