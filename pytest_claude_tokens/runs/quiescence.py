"""When nothing more will happen by itself: every living client holds a request or sleeps.

Read from ``/proc``: each thread of each process of a group, its state and the time that it has used. On a machine
without it, quiet is a while without anything new.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["ASLEEP", "groups_state", "wait_for_quiescence"]

ASLEEP = frozenset("SIZXTt")
"""States of a thread that doesn't run: asleep, idle, ended, stopped."""
_SAMPLES = 4
_PAUSE = 0.004
_BLIND = 0.1

State = tuple[tuple[int, str, int], ...]


def groups_state(groups: Iterable[int]) -> State:
    """Thread, state and ticks used, of every thread of the process groups."""
    wanted = set(groups)
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and _group_of(name) in wanted:
            with suppress(OSError):
                found += [_thread(f"/proc/{name}/task/{thread}/stat") for thread in os.listdir(f"/proc/{name}/task")]
    return tuple(sorted(found))


def _fields(path: str) -> list[bytes]:
    """The fields of a ``stat`` file after the name, which may have spaces and parentheses in it."""
    with open(path, "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _group_of(process: str) -> int:
    try:
        return int(_fields(f"/proc/{process}/stat")[2])
    except OSError:  # it has just ended
        return -1


def _thread(path: str) -> tuple[int, str, int]:
    fields = _fields(path)
    return int(path.split("/")[4]), fields[0].decode(), int(fields[11]) + int(fields[12])


def wait_for_quiescence(groups: Callable[[], list[int]], events: Callable[[], int], deadline: float) -> bool:
    """Wait until nothing changes any more; ``False`` where ``deadline`` (of ``time.monotonic``) comes first.

    ``groups``: the process groups that live; ``events``: a number that changes when anything happens.
    """
    last: tuple[State, int] | None = None
    same = 0
    while time.monotonic() < deadline:
        living = groups()
        if not living:
            return True
        seen = (groups_state(living) if os.path.isdir("/proc/self/task") else (), events())
        asleep = all(state in ASLEEP for _, state, _ in seen[0])
        same = same + 1 if seen == last and asleep else 0
        if same >= _SAMPLES:
            return True
        last = seen
        time.sleep(_PAUSE if seen[0] else _BLIND)
    return False
