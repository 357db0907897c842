"""What a schedule's deviations did in one run that is watched, in the words of whoever wrote the code under test.

"w1 overtakes w0 after w0's request #2 was sent (dispatch.py:31)" says where to look; "w1 runs alone for 5 decisions
from decision 2" only says what to repeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pytest_claude_tokens.simulation.chooser import CLOCK, Chooser
from pytest_claude_tokens.simulation.thread_record import worker_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fake_server.events import Event
    from pytest_claude_tokens.simulation.schedule import Deviation, Schedule

__all__ = ["Moments", "WatchedChooser"]


class Moments:
    """The decisions of a run that were not by default. ``place``: where the code of a worker is, as it is shown."""

    def __init__(self, place: Callable[[int], str]) -> None:
        self._place = place
        self._last: dict[str, Event] = {}
        self._requests: dict[int | None, Event] = {}
        self._passed: list[tuple[int, int, dict[int, str]]] = []
        self._late: dict[int, str] = {}
        self._ended: dict[tuple[str, str], str] = {}

    # What happens.

    def observe(self, event: Event) -> None:
        """An event is journalled."""
        if event.op is not None and event.type != "note":
            self._last[event.actor] = event
            self._requests.setdefault(event.op, event)
        elif event.f in ("cancel", "kill"):
            self._ended[event.f, event.actor] = self._when(event.actor)

    def passed(self, decision: int, chosen: int, over: Sequence[int]) -> None:
        """Worker ``chosen``, or the clock, goes on, although those could who would have come first by default."""
        moments = {
            worker: self._when(f"w{worker}") for worker in dict.fromkeys(over) if worker >= 0 and worker != chosen
        }
        self._passed.append((decision, chosen, moments))

    def late(self, step: int, worker: int) -> None:
        """A step takes time."""
        self._late[step] = self._when(f"w{worker}")

    def _when(self, actor: str) -> str:
        """Where a worker is in its work: after which request or reply, and at which line."""
        event = self._last.get(actor)
        if event is None:
            when = f"before {actor}'s first request"
        elif event.type == "invoke":
            when = f"after {actor}'s request #{event.seq} was sent"
        else:
            when = f"after the reply to {actor}'s #{self._requests[event.op].seq}"
        place = self._place(worker_number(actor))
        return f"{when} ({place})" if place else when

    # What came of it.

    def words(self, schedule: Schedule) -> dict[Deviation, str]:
        """Those deviations for which there are such words, with them."""
        told = {deviation: self._told(deviation) for deviation in schedule.deviations}
        return {deviation: text for deviation, text in told.items() if text}

    def _told(self, deviation: Deviation) -> str:
        who = f"w{deviation.target}"
        if deviation.what in ("cancel", "kill"):
            when = self._ended.get((deviation.what, who), "")
            return f"{who} is {'cancelled' if deviation.what == 'cancel' else 'killed'} {when}" if when else ""
        if deviation.what == "late":
            when = self._late.get(deviation.position, "")
            return f"{deviation.length / 1000:g} s pass {when}" if when else ""
        if deviation.what not in ("freeze", "alone", "clock"):
            return ""
        return self._overtaking(deviation)

    def _overtaking(self, deviation: Deviation) -> str:
        """Who goes on before whom, and at which moment of his, in the first decision that the deviation has changed."""
        target, end = deviation.target, deviation.position + deviation.length
        during = [one for one in self._passed if deviation.position <= one[0] < end]
        if deviation.what == "freeze":
            during = [one for one in during if target in one[2]]
            passed = target
        else:
            during = [one for one in during if one[1] == (target if deviation.what == "alone" else CLOCK) and one[2]]
            passed = next(iter(during[0][2])) if during else target
        if not during:
            return ""
        when = during[0][2][passed]
        chosen = [chosen for _, chosen, _ in during]
        if set(chosen) == {CLOCK}:
            return f"time passes before w{passed} goes on, {when}"
        names = list(dict.fromkeys(_name(one) for one in chosen if one != CLOCK))
        return f"{' and '.join(names)} overtake{'s' * (len(names) == 1)} w{passed} {when}"


def _name(worker: int) -> str:
    return f"w{worker}" if worker >= 0 else "a task of no worker's"


class WatchedChooser(Chooser):
    """A chooser that tells of each decision that is not by default."""

    __slots__ = ()
    moments: ClassVar[Moments | None] = None
    """Whom it tells; one at a time, as there is one witness."""

    def choose(self, ready: Sequence[int], timer: bool, now: float = 0.0, when: float | None = None) -> int:
        """See :class:`Chooser`."""
        index = super().choose(ready, timer, now, when)
        if index and self.moments is not None:
            chosen, over = (CLOCK, ready) if index == CLOCK else (ready[index], ready[:index])
            self.moments.passed(self.decision, chosen, over)
        return index

    def seconds_late(self, step: int, worker: int, now: float) -> float:
        """See :class:`Chooser`."""
        seconds = super().seconds_late(step, worker, now)
        if seconds and self.moments is not None:
            self.moments.late(step, worker)
        return seconds
