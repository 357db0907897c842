"""All pairs, by name."""

from __future__ import annotations

from collections.abc import Callable

from pytest_claude_tokens import explore
from tests.zoo import async_refreshers, clumsy, deep, leases, pools, thread_refreshers
from tests.zoo.common import Body, Pair

ZOO: dict[str, Pair] = {
    pair.name: pair
    for pair in (
        *async_refreshers.PAIRS,
        *pools.PAIRS,
        *clumsy.PAIRS,
        *deep.PAIRS,
        *leases.PAIRS,
        *thread_refreshers.PAIRS,
    )
}


def explored(pair: Pair, body: Body) -> Callable[[], None]:
    """One body of a pair as the test that a user would write."""
    return explore(workers=pair.workers, **pair.options)(body)
