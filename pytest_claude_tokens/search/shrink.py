"""Shrinks a failing schedule: to fewer deviations, then to shorter and earlier ones.

A run that drew its order or its latencies is first rewritten as its recorded deviations. Then deviations are removed as
long as the run still fails in the same way (delta debugging: Zeller and Hildebrandt, Simplifying and Isolating
Failure-Inducing Input, 2002), and the remaining ones are shortened.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random
from time import monotonic
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.schedule import (
    EACH_LEG,
    FOR_GOOD,
    LENGTHS,
    UNTIL_LEG,
    Deviation,
    DeviationKind,
    Latency,
    Schedule,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_claude_tokens.runs.outcome import Outcome

__all__ = ["as_deviations", "merge", "shrink"]

MOST_RUNS = 800
"""Runs that shrinking one schedule may take."""
MOST_DECISIONS = 3_000_000
"""Decisions of all these runs together: a run that never ends takes thousands of times as long as any other."""
MOST_SECONDS = 30.0
"""Real seconds of all these runs together, after which the best so far is told: a run that starves takes several."""
_READABLE = 3
"""Deviations that a person can still follow: if more remain, another schedule with fewer is searched for."""
_FRESH_SCHEDULES = 150
"""Schedules that are drawn for that search."""
_FINEST = 11
"""A number of decisions is halved so often: of thousands, which take long to run, a few more or less make no story."""
_FRESH_MOMENTS = 12
"""Decisions at which it is tried to suspend a worker instead."""
_ROUND_MILLISECONDS = (1, 10, 100, 1_000, 2_000, 5_000, 10_000, 20_000)
"""The times that a story had best be told with."""
_ORDER: tuple[DeviationKind, ...] = ("freeze", "freeze", "alone", "clock")


def shrink(first: Outcome, run: Callable[[Schedule], Outcome], most_runs: int = MOST_RUNS) -> tuple[Outcome, int]:
    """The simplest outcome found in ``most_runs`` runs that fails in the same way, and the number of runs it took."""
    search = _Search(first, run, most_runs)
    if not search.attempt(as_deviations(first, frozen=True)):
        search.attempt(as_deviations(first))
    search.shorten()
    return search.best, search.runs


def as_deviations(outcome: Outcome, *, frozen: bool = False) -> Schedule:
    """The schedule of a run as deviations: those recorded, where it drew an order or latencies at random.

    ``frozen``: tell a random order as workers that were frozen.
    """
    schedule = outcome.schedule
    if not schedule.is_random:
        return schedule
    order = [deviation for deviation in schedule.deviations if deviation.what in _ORDER]
    rest = [deviation for deviation in schedule.deviations if deviation.what not in _ORDER]
    if schedule.kind != "deviations":
        order = [*(outcome.freezes if frozen else merge(outcome.taken))]
    slow = [*outcome.slow]
    if schedule.latency.kind == "same":  # told in one
        slow = [deviation for deviation in slow if deviation.what != "slow"]
        slow.append(Deviation(EACH_LEG, "slow", 0, schedule.latency.milliseconds))
    return replace(
        schedule,
        kind="deviations",
        deviations=(*order, *slow, *rest),
        latency=Latency(),
        scale=0,
        reach=0,
    )


def merge(taken: Sequence[Deviation]) -> tuple[Deviation, ...]:
    """Join adjacent deviations of length 1 that have the same kind and target into one."""
    merged: list[Deviation] = []
    for deviation in taken:
        last = merged[-1] if merged else None
        if (
            last
            and last.what == deviation.what
            and last.target == deviation.target
            and last.position + last.length == deviation.position
        ):
            merged[-1] = replace(last, length=last.length + 1)
        else:
            merged.append(deviation)
    return tuple(merged)


class _Search:
    def __init__(self, first: Outcome, run: Callable[[Schedule], Outcome], most_runs: int) -> None:
        self.best = first
        self._most_runs = most_runs
        self.runs = 0
        self._decisions = 0
        self._until = monotonic() + MOST_SECONDS
        self._run = run
        self._seen = {first.schedule}

    @property
    def is_over(self) -> bool:
        """Whether no further run may be made."""
        return self.runs >= self._most_runs or self._decisions >= MOST_DECISIONS or monotonic() > self._until

    def attempt(self, schedule: Schedule) -> bool:
        """Run ``schedule``; if it fails in the same way, it becomes the best so far. Returns whether it does."""
        if schedule in self._seen or self.is_over:
            return False
        self._seen.add(schedule)
        self.runs += 1
        outcome = self._run(schedule)
        self._decisions += outcome.decisions
        if type(outcome.error) is not type(self.best.error):
            return False
        self.best = outcome
        return True

    def shorten(self) -> None:
        """Try simpler schedules until none of them fails in the same way."""
        self._suspend()
        self._descend()
        while len(self.best.schedule.deviations) > _READABLE and not self.is_over and self._start_over():
            self._descend()
        if self.best.schedule.seed and self.best.schedule.kind == "deviations":
            self.attempt(replace(self.best.schedule, seed=0))

    def _descend(self) -> None:
        progress = True
        while progress and not self.is_over:
            progress = (
                self._leave_out("planned_faults") | self._leave_out("deviations") | self._join() | self._simplify()
            )

    def _join(self) -> bool:
        """Replace two deviations of a kind by one; or drop one, and shift those after it a little."""
        deviations = sorted(self.best.schedule.deviations)
        if self._leave_one_alone(deviations):
            return True
        slow = [deviation for deviation in deviations if deviation.what == "slow"]
        if len(slow) > 1:
            each = Deviation(EACH_LEG, "slow", 0, max(deviation.length for deviation in slow))
            if self._attempt_deviations([each, *(one for one in deviations if one.what != "slow")]):
                return True
        for first, second in itertools.combinations(range(len(deviations)), 2):
            one, two = deviations[first], deviations[second]
            if one.what == two.what and one.target == two.target and one.what in _ORDER:
                joined = replace(one, length=two.position + two.length - one.position)
                if self._attempt_deviations(
                    [*deviations[:first], joined, *deviations[first + 1 : second], *deviations[second + 1 :]]
                ):
                    return True
        for index, shift in itertools.product(range(len(deviations)), (-2, -1, 1, 2)):
            later = [
                deviation
                if deviation.what == "preempt"
                else replace(deviation, position=max(0, deviation.position + shift))
                for deviation in deviations[index + 1 :]
            ]
            if later and self._attempt_deviations([*deviations[:index], *later]):
                return True
        return False

    def _leave_one_alone(self, deviations: Sequence[Deviation]) -> bool:
        """Where several are frozen, tell it as the one that runs alone meanwhile."""
        frozen = [deviation for deviation in deviations if deviation.what == "freeze"]
        if len(frozen) < 2:
            return False
        begin = min(deviation.position for deviation in frozen)
        others = [deviation for deviation in deviations if deviation.what != "freeze"]
        for target in range(max(deviation.target for deviation in frozen) + 2):
            kept = [*others, *(deviation for deviation in frozen if deviation.target == target)]
            for length in sorted({deviation.length for deviation in frozen}, reverse=True):
                if self._attempt_deviations([Deviation(begin, "alone", target, length), *kept]):
                    return True
        return False

    def _attempt_deviations(self, deviations: Sequence[Deviation]) -> bool:
        return self.attempt(replace(self.best.schedule, deviations=tuple(deviations)))

    def _start_over(self) -> bool:
        """Search for another failing schedule with fewer deviations: those recorded from a walk are short and many.

        One long deviation (a worker frozen for a while) often causes the same failure as many short ones.
        """
        schedule = self.best.schedule
        random = Random(0)
        kept = tuple(deviation for deviation in schedule.deviations if deviation.what not in _ORDER)
        order = [deviation for deviation in schedule.deviations if deviation.what in _ORDER]
        targets = sorted({deviation.target for deviation in order} | {0, 1})
        last = max((deviation.position for deviation in order), default=0) + 2
        for _ in range(_FRESH_SCHEDULES):
            drawn = tuple(
                Deviation(
                    random.randint(0, last), random.choice(_ORDER), random.choice(targets), random.choice(LENGTHS)
                )
                for _ in range(random.randint(1, min(_READABLE, max(1, len(order) - 1))))
            )
            if self.attempt(replace(schedule, deviations=(*kept, *drawn))):
                return True
        return False

    def _suspend(self) -> None:
        """Where time has passed early, somebody may as well be suspended, from one of the first moments on."""
        deviations = self.best.schedule.deviations
        order = [deviation for deviation in deviations if deviation.what in _ORDER]
        if len(order) <= _READABLE or not any(deviation.what == "clock" for deviation in order):
            return
        kept = [deviation for deviation in deviations if deviation.what not in _ORDER]
        targets = sorted({deviation.target for deviation in order} | {0, 1})
        for position in sorted({deviation.position for deviation in order})[:_FRESH_MOMENTS]:
            for target in targets:
                if self._attempt_deviations([*kept, Deviation(position, "freeze", target, FOR_GOOD)]):
                    return

    def _leave_out(self, name: str) -> bool:
        before = self.best.schedule
        size = len(getattr(before, name))
        while size:
            items = getattr(self.best.schedule, name)
            for start in range(0, len(items), size):
                kept = items[:start] + items[start + size :]
                if len(kept) < len(items) and self.attempt(replace(self.best.schedule, **{name: kept})):
                    break
            else:
                size //= 2
        return self.best.schedule != before

    def _simplify(self) -> bool:
        progress = False
        for index in range(len(self.best.schedule.deviations)):
            for simpler in _simpler(self.best.schedule.deviations[index]):
                deviations = list(self.best.schedule.deviations)
                deviations[index] = simpler
                if self._attempt_deviations(deviations):
                    progress = True
                    break
        return progress


def _simpler(deviation: Deviation) -> Iterator[Deviation]:
    """The deviation with smaller numbers, or rounder ones, the largest step first."""
    for length in _simpler_lengths(deviation):
        yield replace(deviation, length=length)
    if deviation.position == EACH_LEG:
        return
    for position in sorted({0, deviation.position // 2, deviation.position - 1} - {-1}):
        if position < deviation.position:
            yield replace(deviation, position=position)
    if deviation.target > 0:
        yield replace(deviation, target=deviation.target - 1)


def _simpler_lengths(deviation: Deviation) -> list[int]:
    length = deviation.length
    if deviation.what in ("cancel", "kill"):  # a signal number
        return []
    if deviation.what == "preempt" and length in (UNTIL_LEG, FOR_GOOD):  # a few decisions are simpler, hundreds aren't
        return [1, 2, 3]
    if deviation.what not in ("slow", "late"):
        halves = {length - (length >> step) for step in range(1, min(length.bit_length(), _FINEST))}
        return [shorter for shorter in sorted({1, *halves}) if shorter < length]
    shorter = [milliseconds for milliseconds in _ROUND_MILLISECONDS if milliseconds < length]
    rounder = [length // 1000 * 1000, -(-length // 1000) * 1000] if length > 1000 and length % 1000 else []
    # Then by halves, to the second: so the story tells which lease is just too short.
    nearer = [(length - (length >> step)) // 1000 * 1000 for step in range(1, length.bit_length() - 9)]
    return shorter + rounder + sorted({time for time in (*nearer, (length - 1) // 1000 * 1000) if 0 < time < length})
