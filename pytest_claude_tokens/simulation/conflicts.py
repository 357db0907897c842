"""Which accesses of a run conflict: two threads, one thing, one of them writes, and no lock that both hold.

Only before such an access does it matter who goes on (Flanagan and Godefroid, Dynamic Partial-Order Reduction, POPL
2005). Two accesses under one lock are kept apart by it: there, the operations of the lock are where to switch. Where a
thread touches a thing for the second time, and what another does to it in between could not have been done before or
after both, a switch is most likely to break something (Lu et al., AVIO, ASPLOS 2006). And where a thread has just
written what others look at, what it writes next may belong to it: an object is published, and then filled. Who meets it
half-made may read it in code that nobody watches (a client's, which was given its headers), so no conflict is seen.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.naming import ANY, Owner

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from pytest_claude_tokens.simulation.naming import Touched
    from pytest_claude_tokens.simulation.watch import Step

__all__ = [
    "BETWEEN",
    "CONFLICT",
    "UNNAMED",
    "Point",
    "Thing",
    "classes",
    "conflicting",
    "conflicts",
    "points",
    "ranked",
]

Point = tuple[int, str, int]
"""A worker, a place, and how often the worker has been there before."""
Thing = tuple[Owner | str | None, str]
"""An object, and what of it."""

BETWEEN, CONFLICT, UNNAMED = 0, 1, 2
"""How promising it is to preempt a thread before an access: between two that belong together; before any that
conflicts; before one that conflicts only if what has no name is the same thing, or that follows on a publication.
"""
_UNSERIALIZABLE = {(False, True, False), (True, True, False), (True, False, True), (False, True, True)}
"""Whether the first access, another thread's in between, and the second access are writes."""

_Use = tuple[int, bool, object, "frozenset[int]"]
"""A thread's access: the thread, whether it writes, which item, and the locks that it holds."""


def conflicting(steps: Iterable[Step]) -> dict[Thing, set[_Use]]:
    """The things that two threads of a run have touched, in conflict, with the different ways in which they did."""
    uses: dict[Thing, set[_Use]] = defaultdict(set)
    unnamed: dict[str, set[_Use]] = defaultdict(set)
    any_of: dict[str, set[_Use]] = defaultdict(set)
    for step in steps:
        for owner, what, key, write in step.touched:
            use = (step.thread, write, key, step.locks)
            uses[owner, what].add(use)
            any_of[what].add(use)
            if owner is None:
                unnamed[what].add(use)
    meeting = {
        (owner, what): any_of[what] if owner is None else own | unnamed[what] for (owner, what), own in uses.items()
    }
    return {thing: others for thing, others in meeting.items() if _conflict(uses[thing], others)}


def conflicts(steps: Sequence[Step]) -> Iterator[tuple[int, Touched]]:
    """The number of each step that conflicts with another thread's, and what it touched; what has no name, not."""
    things = conflicting(steps)
    for number, step in enumerate(steps):
        for touched in step.touched:
            owner, what, key, write = touched
            use = (step.thread, write, key, step.locks)
            if owner is not None and any(_clash(use, other) for other in things.get((owner, what), ())):
                yield number, touched


def _conflict(own: set[_Use], others: set[_Use]) -> bool:
    if len({use[0] for use in others}) < 2 or not any(use[1] for use in others):
        return False
    return any(_clash(one, other) for one in own for other in others)


def _clash(one: _Use, other: _Use) -> bool:
    same = one[2] == other[2] or ANY in (one[2], other[2])
    return one[0] != other[0] and (one[1] or other[1]) and same and not one[3] & other[3]


def points(steps: Sequence[Step]) -> dict[Point, int]:
    """The points of a run at which to preempt a thread, in order, each with how promising that is."""
    return {point: rank for (point, late), rank in ranked(steps).items() if not late}


def ranked(steps: Sequence[Step]) -> dict[tuple[Point, bool], int]:
    """As :func:`points`; ``True`` beside a point where all others slept: there, only a long absence lets them meet."""
    things = conflicting(steps)
    last: dict[tuple[int, Thing], _Use] = {}
    found: dict[tuple[Point, bool], int] = {}
    shown: dict[int, int] = {}
    """The decision at which a thread last wrote what another looks at, if it has written nothing since."""
    for step in steps:
        if shown and any(write for *_, write in step.touched) and shown.pop(step.thread, None) == step.decision:
            _find(found, step, UNNAMED)
        for owner, what, key, write in step.touched:
            uses = things.get((owner, what))
            if uses is None:
                continue
            use = (step.thread, write, key, step.locks)
            if not any(_clash(use, other) for other in uses):
                continue
            before = last.get((step.thread, (owner, what)))
            last[step.thread, (owner, what)] = use
            _find(found, step, UNNAMED if owner is None else BETWEEN if _is_between(before, use, uses) else CONFLICT)
            if write:
                shown[step.thread] = step.decision
    return found


def _find(found: dict[tuple[Point, bool], int], step: Step, rank: int) -> None:
    point = (step.worker, step.access.place, step.times), not step.others
    if step.others or step.sleepers:
        found[point] = min(rank, found.get(point, rank))


def _is_between(first: _Use | None, second: _Use, others: Iterable[_Use]) -> bool:
    """Whether another thread's access could come between the two, and the three could not have come in turn."""
    if first is None or first[3] & second[3]:
        return False
    return any(
        (first[1], other[1], second[1]) in _UNSERIALIZABLE and _clash(other, second) and other[0] != first[0]
        for other in others
    )


def classes(steps: Sequence[Step]) -> int:
    """A hash that is equal for two runs which differ only in the order of accesses that don't conflict."""
    things = conflicting(steps)
    orders: dict[Thing, list[Hashable]] = defaultdict(list)
    reads: dict[Thing, set[Hashable]] = defaultdict(set)
    for step in steps:
        for owner, what, _, write in step.touched:
            thing = (owner, what)
            if thing not in things:
                continue
            mark = (step.worker, step.access.place, step.times)
            if not write:
                reads[thing].add(mark)
                continue
            orders[thing] += [frozenset(reads.pop(thing, ())), mark]
    for thing, left in reads.items():
        orders[thing].append(frozenset(left))
    return hash(frozenset((what, tuple(order)) for (_, what), order in orders.items()))
