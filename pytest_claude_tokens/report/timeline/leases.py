"""Who held which lock, and from where to where: from what a search saw of each request's worker when it was sent."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_claude_tokens.judge.history import Operation

__all__ = ["holds"]


def holds(operations: Iterable[Operation], place: Callable[[int], float], end: int) -> list[tuple[Any, ...]]:
    """Each hold once: the lock's name, its first and last place, the worker, and the line that took it.

    Locks are no events: a search numbers what it sees of them along with the beginnings and ends of requests. So a hold
    begins and ends half-way behind the event that came before. ``place`` gives the place of an event by its ``seq``;
    ``end`` is behind the last one.
    """
    known: list[tuple[int, float]] = []
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for op in operations:
        seen = op.invoke.get("seen")
        if not isinstance(seen, dict):
            continue
        for tick, seq in ((seen.get("sent"), op.opened), (seen.get("ended"), op.closed)):
            if isinstance(tick, int) and seq is not None:
                known.append((tick, place(seq)))
        for hold in _told(seen):
            found.setdefault((hold["lock"], op.actor, hold["tick"]), hold)
    known.sort()
    ticks = [tick for tick, _ in known]

    def behind(tick: int) -> float:
        index = bisect_right(ticks, tick)
        return known[index - 1][1] + 0.5 if index else -0.5

    return [
        (
            lock,
            behind(tick),
            end if hold.get("released") is None else behind(int(hold["released"])),
            worker,
            str(hold.get("at") or ""),
        )
        for (lock, worker, tick), hold in sorted(found.items(), key=lambda item: item[0][2])
    ]


def _told(seen: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The holds of one request's worker; a file that we did not write may hold anything in their place."""
    held, lost = seen.get("held"), seen.get("lost")
    for hold in (*(held if isinstance(held, list) else ()), *(lost if isinstance(lost, list) else ())):
        if isinstance(hold, dict) and isinstance(hold.get("lock"), str) and isinstance(hold.get("tick"), int):
            released = hold.get("released")
            if released is None or isinstance(released, int):
                yield hold
