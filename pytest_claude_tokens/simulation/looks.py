"""Who looks at the clock, and what becomes of code that looks until it has moved on.

Simulated time stands still while a thread computes. One that reads the clock again and again without coming to a switch
point would never see it move. After :data:`MOST_LOOKS` such looks further ones are switch points; where the event
loop's own thread looks, in whose place no other can go on, time passes.

Code of the standard library that waits for a process looks at a real thing, which simulated time knows nothing of: for
it, clocks and sleeps stay real.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.active import here

if TYPE_CHECKING:
    from pytest_claude_tokens.simulation.thread_record import ThreadRecord
    from pytest_claude_tokens.simulation.world import World

__all__ = ["LOOKS_AT_ONCE", "MOST_LOOKS", "looking", "sleeping"]

MOST_LOOKS = 100
"""A thread's looks at the clock without progress, up to which time stands still."""
LOOKS_AT_ONCE = 10
"""Further looks from one of its turns to the next."""
_REAL = ("subprocess", "multiprocessing", "concurrent.futures.process")


def looking() -> tuple[World, ThreadRecord] | None:
    """As :func:`here`, for the function that the caller's caller reads the clock with."""
    place = here()
    if place is None or _waits_for_a_process():
        return None
    world, record = place
    if world.holder is not record:  # it is outside
        return place
    if record.looked_at != world.happened:
        record.looked_at, record.looks = world.happened, 0
    record.looks += 1
    if record.looks > MOST_LOOKS:
        record.looks -= LOOKS_AT_ONCE
        if record is world.loop_record:
            world.look()
        else:
            world.pause(record, rotate=True)
    return place


def sleeping() -> tuple[World, ThreadRecord] | None:
    """As :func:`here`, for the function that the caller's caller sleeps with."""
    place = here()
    return None if place is None or _waits_for_a_process() else place


def _waits_for_a_process() -> bool:
    name = sys._getframe(3).f_globals.get("__name__")
    return name in _REAL or (isinstance(name, str) and name.startswith("multiprocessing."))
