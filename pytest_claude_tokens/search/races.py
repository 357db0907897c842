"""Which races the runs of a search have shown, and which of them in both orders.

A race is two requests of different workers about one token, of which either could have come first: two refreshes of one
pair, or a refresh by one worker and the other's use of what it brought; two calls with one bearer. A search that saw
one order only may have missed the one that breaks something.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING

from pytest_claude_tokens.simulation.thread_record import worker_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_claude_tokens.judge.history import History

    Token = tuple[str | None, str]
    Use = tuple[int, int]

__all__ = ["Races"]

_MOST_USES = 4
"""Calls of one worker with one bearer that are looked at: among more, the order of most was decided by these."""


class Races:
    """The orders that were seen: of each token, which use came before which. A use is a worker and the number of its
    request about that token.

    Only the first refresh of a token is a use of it, as it is the last one in sound code: whoever comes later finds the
    new pair. So a worker that does use the new pair has come second.
    """

    def __init__(self) -> None:
        self._orders: set[tuple[Token, Use, Use]] = set()
        self._firsts: dict[Token, set[int]] = {}

    @property
    def seen(self) -> int:
        """How many races there were."""
        return len({(token, frozenset(pair)) for token, *pair in self._orders})

    @property
    def both_ways(self) -> int:
        """How many of them were seen in both orders."""
        return sum((token, second, first) in self._orders for token, first, second in self._orders) // 2

    def learn(self, history: History) -> None:
        """Take note of a run."""
        users: dict[Token, list[int]] = {}
        for operation in history.operations:
            if operation.f == "call" and operation.bearer not in (None, "unknown"):
                worker = worker_number(operation.actor)
                if worker >= 0:
                    users.setdefault((operation.grant, operation.bearer), []).append(worker)
        for token, callers in users.items():
            self._note_calls(token, callers)
        for token, sent in history.presentations.items():
            issued = next((one.issued["access"] for one in sent if one.issued), None)
            after = [*(worker_number(one.actor) for one in sent[1:]), *users.get((token[0], issued or ""), ())]
            self._note_refresh(token, worker_number(sent[0].actor), after)

    def _note_calls(self, token: Token, callers: Iterable[int]) -> None:
        numbers: Counter[int] = Counter()
        uses = []
        for worker in callers:
            numbers[worker] += 1
            if numbers[worker] <= _MOST_USES:
                uses.append((worker, numbers[worker]))
        self._orders.update((token, one, other) for one, other in combinations(uses, 2) if one[0] != other[0])

    def _note_refresh(self, token: Token, first: int, after: Iterable[int]) -> None:
        if first < 0:
            return
        firsts = self._firsts.setdefault(token, set())
        for other in {*after, *firsts} - {first}:
            if other >= 0:
                self._orders.add((token, (first, 0), (other, 0)))
                if other in firsts:
                    self._orders.add((token, (other, 0), (first, 0)))
        firsts.add(first)
