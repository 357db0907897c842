"""The random half of the chooser: its distributions, and the guarantee of PCT, over fixed seeds.

Bounds are at least four standard deviations wide, so that any honest source of randomness keeps them.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise

import pytest

from pytest_claude_tokens.simulation.chooser import CLOCK, Chooser
from pytest_claude_tokens.simulation.schedule import Schedule

BODY = -1
ALL = [2, 0, BODY, 1]
"""Three workers and the body, all of which can run, in an order that is none of their numbers'."""
HORIZON = 60
"""Decisions over which PCT spreads its changes: longer than most runs of a dispatcher."""


def order_of(kind, seed, decisions, ready=ALL, *, timer=False):
    """Who goes at each decision, where the same ones can always run."""
    chooser = Chooser(Schedule(kind=kind, seed=seed), 3)
    order = []
    for _ in range(decisions):
        index = chooser.choose(ready, timer)
        order.append(CLOCK if index == CLOCK else ready[index])
        chooser.decision += 1
    return order


# PCT (Burckhardt et al., section 2.2): random priorities; at a change point the running one's falls below all others.


def test_pct_gives_everybody_the_same_chance_of_the_first_turn():
    """The body, too: an order in which it goes first is as likely as any other."""
    first = Counter(order_of("pct", seed, 1)[0] for seed in range(2000))
    assert set(first) == set(ALL)
    assert all(420 <= count <= 580 for count in first.values())


def test_pct_gives_every_order_of_priorities_the_same_chance():
    """Who comes second, where the first one is away, does not depend on who that is."""
    orders = Counter()
    for seed in range(2400):
        chooser = Chooser(Schedule(kind="pct", seed=seed), 3)
        chooser.decision = HORIZON  # no change is to come
        left, order = list(ALL), []
        while left:
            order.append(left.pop(chooser.choose(left, timer=False)))
        orders[tuple(order)] += 1
    assert len(orders) == 24
    assert all(55 <= count <= 150 for count in orders.values())


def test_pct_puts_the_running_one_below_all_others_at_a_change():
    """Whoever has lost its turn so does not get it back while one can run that has not."""
    changed = 0
    for seed in range(1000):
        turns = [who for who, _ in groupby(order_of("pct", seed, HORIZON + 10))]
        assert len(turns) == len(set(turns)), f"seed {seed}: {turns}"
        changed += len(turns) > 1
    assert changed > 900


def test_pct_puts_it_below_those_that_have_no_priority():
    """Threads that belong to nobody go after the workers and before whoever has lost its turn."""
    stranger = -2
    runs = [[who for who, _ in groupby(order_of("pct", seed, HORIZON + 10, [stranger, 0]))] for seed in range(300)]
    first_of_all = sum(turns[0] == 0 for turns in runs)
    gave_way = sum(turns[:2] == [0, stranger] for turns in runs)
    assert first_of_all > 275  # all but those with a change at the first decision
    assert gave_way == first_of_all


def test_pct_changes_one_to_three_times():
    """Each number of changes is as likely as the others; two at one decision, or one at the first, can't be told."""
    changes = Counter(len(list(groupby(order_of("pct", seed, HORIZON + 10)))) - 1 for seed in range(1500))
    assert set(changes) <= {0, 1, 2, 3}
    assert all(400 <= changes[number] <= 600 for number in (1, 2, 3))


def test_pct_spreads_its_changes_evenly_over_the_length_of_a_run():
    """A bug late in a run has the same chance as one at its start."""
    places = Counter()
    for seed in range(2000):
        order = order_of("pct", seed, 2 * HORIZON)
        places.update(number for number, (a, b) in enumerate(pairwise(order), 1) if a != b)
    assert max(places) == HORIZON - 1
    assert set(places) == set(range(1, HORIZON))
    by_ten = Counter(place // 10 for place in places.elements())
    whole = [by_ten[ten] for ten in range(1, 6)]  # the first ten lack the change that can't be told
    assert all(0.85 <= count * len(whole) / sum(whole) <= 1.15 for count in whole)


# The walk: a uniform choice each time.


def test_walk_gives_everybody_the_same_chance_each_time():
    """Whoever went before, and wherever it stands."""
    order = order_of("walk", 3, 8000)
    assert all(1750 <= count <= 2250 for count in Counter(order).values())
    assert all(340 <= count <= 660 for count in Counter(pairwise(order)).values())
    assert len(set(pairwise(order))) == 16


def test_walk_does_not_weigh_a_worker_by_how_much_of_it_is_ready():
    """One that has four tasks ready has one chance, not four; of its tasks the first goes."""
    chooser = Chooser(Schedule(kind="walk", seed=5), 3)
    indices = Counter(chooser.choose([0, 0, 0, 0, 1], timer=False) for _ in range(4000))
    assert set(indices) == {0, 4}
    assert 1850 <= indices[4] <= 2150


# Timers.


@pytest.mark.parametrize("kind", ["pct", "walk"])
def test_a_timer_fires_early_once_in_twenty_decisions(kind):
    """Oftener, and workers would hardly run; and never where there is none."""
    clocks = sum(order_of(kind, seed, 200, timer=True).count(CLOCK) for seed in range(50))
    assert 0.04 <= clocks / 10_000 <= 0.06
    assert CLOCK not in order_of(kind, 0, 1000)
