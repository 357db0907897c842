"""From a failing schedule to the shortest one: fewer facts, then shorter and earlier ones.

A run under ``pct`` or ``walk`` is first told again as the facts by which it departed from stock order. Then facts are
left out as long as the same thing still goes wrong (delta debugging: Zeller and Hildebrandt, Simplifying and Isolating
Failure-Inducing Input, 2002), and what is left is made shorter.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.schedule import LENGTHS, Fact, Schedule, What

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_claude_tokens.simulation.outcome import Outcome

__all__ = ["merge", "polish"]

BUDGET = 800
"""Runs that a polish may take."""
_FEW = 3
"""More facts than these are worth to look for a simpler story."""
_FRESH = 150
_ORDER: tuple[What, ...] = ("freeze", "freeze", "alone", "clock")


def polish(first: Outcome, run: Callable[[Schedule], Outcome], budget: int = BUDGET) -> tuple[Outcome, int]:
    """The simplest failing outcome of the same kind that was found in ``budget`` runs, and how many it took."""
    search = _Search(first, run, budget)
    if first.schedule.kind != "facts":
        told = merge(first.taken)
        rest = [fact for fact in first.schedule.facts if fact.what in ("slow", "cancel", "kill")]
        search.attempt(replace(first.schedule, kind="facts", facts=(*told, *rest)))
    search.shorten()
    return search.best, search.runs


def merge(taken: Sequence[Fact]) -> tuple[Fact, ...]:
    """Departures of length 1, with neighbours of one kind and target made into one fact."""
    merged: list[Fact] = []
    for fact in taken:
        last = merged[-1] if merged else None
        if (
            last
            and last.what == fact.what
            and last.target == fact.target
            and last.position + last.length == fact.position
        ):
            merged[-1] = replace(last, length=last.length + 1)
        else:
            merged.append(fact)
    return tuple(merged)


class _Search:
    def __init__(self, first: Outcome, run: Callable[[Schedule], Outcome], budget: int) -> None:
        self.best = first
        self._budget = budget
        self.runs = 0
        self._run = run
        self._seen = {first.schedule}

    def attempt(self, schedule: Schedule) -> bool:
        """Whether ``schedule`` fails in the same way; then it is the best so far."""
        if schedule in self._seen or self.runs >= self._budget:
            return False
        self._seen.add(schedule)
        self.runs += 1
        outcome = self._run(schedule)
        if type(outcome.error) is not type(self.best.error):
            return False
        self.best = outcome
        return True

    def shorten(self) -> None:
        """Until nothing that is tried is simpler."""
        self._descend()
        while len(self.best.schedule.facts) > _FEW and self.runs < self._budget and self._start_over():
            self._descend()
        if self.best.schedule.seed and self.best.schedule.kind == "facts":
            self.attempt(replace(self.best.schedule, seed=0))

    def _descend(self) -> None:
        progress = True
        while progress and self.runs < self._budget:
            progress = self._leave_out("mishaps") | self._leave_out("facts") | self._join() | self._simplify()

    def _join(self) -> bool:
        """One fact in place of two of a kind; or one less, and those after it a little earlier or later."""
        facts = sorted(self.best.schedule.facts)
        for first, second in itertools.combinations(range(len(facts)), 2):
            one, two = facts[first], facts[second]
            if one.what == two.what and one.target == two.target and one.what in _ORDER:
                joined = replace(one, length=two.position + two.length - one.position)
                if self._attempt_facts([*facts[:first], joined, *facts[first + 1 : second], *facts[second + 1 :]]):
                    return True
        for index, shift in itertools.product(range(len(facts)), (-2, -1, 1, 2)):
            later = [replace(fact, position=max(0, fact.position + shift)) for fact in facts[index + 1 :]]
            if later and self._attempt_facts([*facts[:index], *later]):
                return True
        return False

    def _attempt_facts(self, facts: Sequence[Fact]) -> bool:
        return self.attempt(replace(self.best.schedule, facts=tuple(facts)))

    def _start_over(self) -> bool:
        """Look for another schedule, of fewer facts, where this one was found: a walk's departures are short and many.

        One long fact (a worker that is frozen for a while) often says what many short ones do.
        """
        schedule = self.best.schedule
        random = Random(0)
        kept = tuple(fact for fact in schedule.facts if fact.what not in _ORDER)
        order = [fact for fact in schedule.facts if fact.what in _ORDER]
        targets = sorted({fact.target for fact in order} | {0, 1})
        last = max((fact.position for fact in order), default=0) + 2
        for _ in range(_FRESH):
            drawn = tuple(
                Fact(random.randint(0, last), random.choice(_ORDER), random.choice(targets), random.choice(LENGTHS))
                for _ in range(random.randint(1, min(_FEW, max(1, len(order) - 1))))
            )
            if self.attempt(replace(schedule, facts=(*kept, *drawn))):
                return True
        return False

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
        for index in range(len(self.best.schedule.facts)):
            for simpler in _simpler(self.best.schedule.facts[index]):
                facts = list(self.best.schedule.facts)
                facts[index] = simpler
                if self._attempt_facts(facts):
                    progress = True
                    break
        return progress


def _simpler(fact: Fact) -> Iterator[Fact]:
    """The fact with smaller numbers, the boldest step first."""
    for length in sorted({1, fact.length // 2, fact.length - 1} - {0}):
        if length < fact.length and fact.what not in ("cancel", "kill"):  # there it is the number of a signal
            yield replace(fact, length=length)
    for position in sorted({0, fact.position // 2, fact.position - 1} - {-1}):
        if position < fact.position:
            yield replace(fact, position=position)
    if fact.target > 0:
        yield replace(fact, target=fact.target - 1)
