"""Which numbers of seconds can be waited for: those that the interpreter takes.

A wait that never ends, or one until a time that is no number, would keep the simulated clock from ever moving on.
"""

from __future__ import annotations

from math import isnan
from operator import index
from typing import Any

__all__ = ["LONGEST_SECONDS", "checked_timeout"]

LONGEST_SECONDS = 9_223_372_036.0
"""The longest wait, as in ``threading.TIMEOUT_MAX``: some 292 years."""


def checked_timeout(seconds: Any) -> float:
    """``seconds`` as a number. Raises what ``time.sleep`` and ``Lock.acquire`` raise for anything else."""
    number: float = seconds if isinstance(seconds, float) else index(seconds)
    if isinstance(number, float) and isnan(number):
        raise ValueError("Invalid value NaN (not a number)")
    if abs(number) > LONGEST_SECONDS:
        raise OverflowError("timestamp out of range for platform time_t")
    return number
