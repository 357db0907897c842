"""Who looks at the clock, and what becomes of code that looks until it has moved on.

Simulated time stands still while a thread computes. One that reads the clock again and again without coming to a switch
point would never see it move: after :data:`MOST_LOOKS` such looks each further one is a switch point, and where the
event loop's own thread looks, at which no other can take its place, time passes.

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

__all__ = ["MOST_LOOKS", "looking", "sleeping"]

MOST_LOOKS = 100
"""Looks at the clock without a decision in between."""
_REAL = ("subprocess", "multiprocessing", "concurrent.futures.process")


def looking() -> tuple[World, ThreadRecord] | None:
    """As :func:`here`, for the function that the caller's caller reads the clock with."""
    place = here()
    if place is None or _waits_for_a_process():
        return None
    world, record = place
    if world.holder is not record:  # it is outside
        return place
    if world.looked_at != world.steps:
        world.looked_at, world.looks = world.steps, 0
    world.looks += 1
    if world.looks > MOST_LOOKS:
        world.looks = 0
        if record is world.loop_record:
            world.now += world.look_seconds
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
