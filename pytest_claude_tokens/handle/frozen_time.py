"""One time for a test that freezes it: what the service's clock reads, in whatever thread."""

from __future__ import annotations

import calendar
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["now"]


def now() -> float:
    """POSIX seconds, as freezegun has frozen them where it has.

    freezegun's own ``time.time`` tells the real time to callers that it finds on its ignore list, ``threading`` among
    them; so under it a server's thread would have a time of its own. And its ticking clock ticks at each reading, which
    a look of the service's must not cause.
    """
    factories: list[Any] = getattr(sys.modules.get("freezegun.api"), "freeze_factories", [])
    try:
        factory = factories[-1]  # another thread may end the freezing at any time
    except IndexError:
        return time.time()
    frozen: datetime = factory.time_to_freeze if hasattr(factory, "step_width") else factory()
    return calendar.timegm(frozen.timetuple()) + frozen.microsecond / 1e6
