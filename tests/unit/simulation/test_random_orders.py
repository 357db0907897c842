"""The random orders: their distributions, and the guarantee of PCT, over fixed seeds.

Bounds are at least four standard deviations wide, so that any honest source of randomness keeps them.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise
from random import Random

import pytest

from pytest_claude_tokens.simulation.orders import CLOCK, Interrupts, Paced, PartialOrder, Priorities, Walk

BODY = -1
ALL = [2, 0, BODY, 1]
"""Three workers and the body, all of which can run, in an order that is none of their numbers'."""
HORIZON = 60
"""Decisions over which PCT spreads its changes: longer than most runs of a dispatcher."""


def pct(seed, **options):
    return Priorities(Random(seed), 3, HORIZON, **options)


def pos(seed, **options):
    return PartialOrder(Random(seed), **options)


def walk(seed):
    return Walk(Random(seed))


def turns_of(order, decisions, ready=ALL, *, when=None):
    """Who goes at each decision, where the same ones can always run."""
    indices = [order.pick(decision, ready, 0.0, when) for decision in range(decisions)]
    return [CLOCK if index == CLOCK else ready[index] for index in indices]


# PCT (Burckhardt et al., section 2.2): random priorities; at a change point the running one's falls below all others.


def test_pct_gives_everybody_the_same_chance_of_the_first_turn():
    """The body, too: an order in which it goes first is as likely as any other."""
    first = Counter(turns_of(pct(seed), 1)[0] for seed in range(2000))
    assert set(first) == set(ALL)
    assert all(420 <= count <= 580 for count in first.values())


def test_pct_gives_every_order_of_priorities_the_same_chance():
    """Who comes second, where the first one is away, does not depend on who that is."""
    orders = Counter()
    for seed in range(2400):
        priorities = pct(seed)
        left, order = list(ALL), []
        while left:
            order.append(left.pop(priorities.pick(HORIZON, left, 0.0, None)))  # no change is to come
        orders[tuple(order)] += 1
    assert len(orders) == 24
    assert all(55 <= count <= 150 for count in orders.values())


def test_pct_puts_the_running_one_below_all_others_at_a_change():
    """Whoever has lost its turn so does not get it back while one can run that has not."""
    changed = 0
    for seed in range(1000):
        turns = [who for who, _ in groupby(turns_of(pct(seed), HORIZON + 10))]
        assert len(turns) == len(set(turns)), f"seed {seed}: {turns}"
        changed += len(turns) > 1
    assert changed > 900


def test_pct_puts_it_below_those_that_have_no_priority():
    """Threads that belong to nobody go after the workers and before whoever has lost its turn."""
    stranger = -2
    runs = [[who for who, _ in groupby(turns_of(pct(seed), HORIZON + 10, [stranger, 0]))] for seed in range(300)]
    first_of_all = sum(turns[0] == 0 for turns in runs)
    gave_way = sum(turns[:2] == [0, stranger] for turns in runs)
    assert first_of_all > 275  # all but those with a change at the first decision
    assert gave_way == first_of_all


def test_pct_changes_one_to_three_times():
    """Each number of changes is as likely as the others; two at one decision, or one at the first, can't be told."""
    changes = Counter(len(list(groupby(turns_of(pct(seed), HORIZON + 10)))) - 1 for seed in range(1500))
    assert set(changes) <= {0, 1, 2, 3}
    assert all(400 <= changes[number] <= 600 for number in (1, 2, 3))


def test_pct_spreads_its_changes_evenly_over_the_length_of_a_run():
    """A bug late in a run has the same chance as one at its start."""
    places = Counter()
    for seed in range(2000):
        order = turns_of(pct(seed), 2 * HORIZON)
        places.update(number for number, (a, b) in enumerate(pairwise(order), 1) if a != b)
    assert max(places) == HORIZON - 1
    assert set(places) == set(range(1, HORIZON))
    by_ten = Counter(place // 10 for place in places.elements())
    whole = [by_ten[ten] for ten in range(1, 6)]  # the first ten lack the change that can't be told
    assert all(0.85 <= count * len(whole) / sum(whole) <= 1.15 for count in whole)


# The walk: a uniform choice each time.


def test_walk_gives_everybody_the_same_chance_each_time():
    """Whoever went before, and wherever it stands."""
    order = turns_of(walk(3), 8000)
    assert all(1750 <= count <= 2250 for count in Counter(order).values())
    assert all(340 <= count <= 660 for count in Counter(pairwise(order)).values())
    assert len(set(pairwise(order))) == 16


def test_walk_does_not_weigh_a_worker_by_how_much_of_it_is_ready():
    """One that has four tasks ready has one chance, not four; of its tasks the first goes."""
    order = walk(5)
    indices = Counter(order.pick(0, [0, 0, 0, 0, 1], 0.0, None) for _ in range(4000))
    assert set(indices) == {0, 4}
    assert 1850 <= indices[4] <= 2150


# Partial orders (Yuan, Yang and Gu, section 3.2): each step has a priority, which it keeps until it races with another.


def test_partial_order_gives_every_order_of_steps_the_same_chance():
    """Of the first steps of all who wait, none is likelier to come before another."""
    orders = Counter()
    for seed in range(2400):
        order, left, taken = pos(seed), list(ALL), []
        while left:
            taken.append(left.pop(order.pick(0, left, 0.0, None)))
        orders[tuple(taken)] += 1
    assert len(orders) == 24
    assert all(55 <= count <= 150 for count in orders.values())


def test_partial_order_keeps_who_waits_waiting_until_there_is_a_race():
    """Where a walk would take the other one half of the time; with a race before each step, so does this."""

    def switches(order, races):
        turns = []
        for leg in range(1000):
            if races:
                order.note_leg(leg, 0)
            turns += turns_of(order, 1, [0, 1])
        return sum(a != b for a, b in pairwise(turns))

    assert max(switches(pos(seed), False) for seed in range(20)) < 30
    assert all(400 < switches(pos(seed), True) < 600 for seed in range(20))


def test_partial_order_draws_anew_for_whoever_has_gone():
    """A new step is a new event: who went first is not first for good."""
    orders = Counter(tuple(turns_of(pos(seed), 2, [0, 1])) for seed in range(1200))
    assert {pair: round(6 * count / 1200) for pair, count in orders.items()} == {
        (0, 0): 2, (1, 1): 2, (0, 1): 1, (1, 0): 1,
    }  # fmt: skip


def test_partial_order_may_give_time_a_priority_as_if_it_were_a_worker():
    """Of somebody who belongs to no worker it is told apart, whatever its number."""
    stranger = CLOCK
    first = Counter(pos(seed, clock=True).pick(0, [stranger, 0], 0.0, 1.0) for seed in range(1200))
    assert set(first) == {CLOCK, 0, 1}
    assert all(330 <= count <= 470 for count in first.values())
    assert CLOCK not in {pos(seed, clock=True).pick(0, [0, 1], 0.0, None) for seed in range(50)}


# Timers.


@pytest.mark.parametrize("kind", [pct, pos, walk])
def test_a_timer_fires_early_once_in_twenty_decisions(kind):
    """Oftener, and workers would hardly run; and never where there is none."""
    clocks = sum(turns_of(kind(seed), 200, when=1.0).count(CLOCK) for seed in range(50))
    assert 0.04 <= clocks / 10_000 <= 0.06
    assert CLOCK not in turns_of(kind(0), 1000)


def test_pct_may_give_time_a_priority_as_if_it_were_a_worker():
    """It is as likely to go first as anybody, goes on until its priority falls, and then goes last."""
    runs = [[who for who, _ in groupby(turns_of(pct(seed, clock=True), 2 * HORIZON, when=1.0))] for seed in range(1000)]
    assert 150 <= sum(turns[0] == CLOCK for turns in runs) <= 250  # one of five
    assert all(turns.count(CLOCK) <= 1 for turns in runs)
    assert any(CLOCK in turns[1:] for turns in runs)


# Interrupts: a few steps of random workers, half of them soon after a leg.


def interrupted(seed, *, legs=(), steps=20):
    """The steps at which each of three workers is interrupted; those of ``legs`` ask or are answered before a step."""
    interrupts = Interrupts(Random(seed), 3, 4, steps)
    found = []
    for step in range(40):
        for worker in range(3):
            for leg, (who, when) in enumerate(legs):
                if (who, when) == (worker, step):
                    interrupts.note_leg(leg, worker)
            if interrupts.due(worker):
                found.append((worker, step))
    return found


def test_workers_are_interrupted_up_to_three_times_within_their_first_steps():
    """Each step as likely as the others; those after legs do not come where there are none."""
    places = Counter(place for seed in range(1500) for place in interrupted(seed))
    assert set(places) == {(worker, step) for worker in range(3) for step in range(20)}
    assert all(12 <= count <= 90 for count in places.values())
    assert Counter(len(interrupted(seed)) for seed in range(300)).keys() == {0, 1, 2, 3}


def test_half_of_the_interrupts_come_soon_after_a_leg_of_whoever_has_it():
    """Within seven steps; the legs are counted over all workers."""
    legs = [(2, 25), (0, 26), (1, 27), (2, 32)]
    late = Counter(place for seed in range(1000) for place in interrupted(seed, legs=legs) if place[1] >= 20)
    windows = {(who, when + after) for who, when in legs for after in range(7)}
    assert set(late) == windows
    assert 800 <= sum(late.values()) <= 1200


def test_pct_interrupts_in_place_of_changes():
    """A worker that is interrupted falls below all others."""
    changed = 0
    for seed in range(200):
        order = pct(seed, interrupts=Interrupts(Random(seed), 3, 1, 5))
        turns = [who for who, _ in groupby(turns_of(order, 40))]
        assert len(turns) == len(set(turns))
        changed += len(turns) > 1
    assert 30 < changed < 170


# The pace: whoever is due first goes on.


def paced(seed, seconds=1.0, **options):
    return Paced(Random(seed), 3, seconds, **options)


def test_paced_lets_timers_fire_while_a_worker_is_slow():
    """And the worker goes on when its time has come, if no timer comes first."""
    answers = Counter()
    for seed in range(500):
        order, ready = paced(seed, 10.0), [0, 1, 2]
        index = order.pick(0, ready, 0.0, 0.5)
        answers[CLOCK if index == CLOCK else ready[index]] += 1
        if index != CLOCK:
            assert 0.0 <= order.seconds_late(ready[index], 0.0) <= 0.5
    assert all(answers[who] > 10 for who in (0, 1, 2))
    assert 0 < answers[CLOCK] < 100  # all three of them are slow, and by more than half a second


def test_paced_workers_go_on_in_the_order_in_which_they_are_due():
    """A slow one comes after all that the others do meanwhile, and what is left of its time passes before its step."""
    waited = 0
    for seed in range(300):
        order, now, last = paced(seed), 0.0, 0.0
        for decision in range(30):
            ready = [0, 1, 2]
            who = ready[order.pick(decision, ready, now, None)]
            late = order.seconds_late(who, now)
            waited += late > 0
            now += late
            assert now >= last
            last = now
    assert waited > 300


def test_paced_takes_time_for_a_third_of_the_steps_of_workers_and_none_for_others():
    """What belongs to nobody is as fast as ever."""
    late = {0: 0, -5: 0}
    for seed in range(100):
        for who in late:
            order = paced(seed)
            for decision in range(20):
                assert order.pick(decision, [who], 0.0, None) == 0
                late[who] += order.seconds_late(who, 1e-12 * decision) > 0
                order._at = 0.0
    assert late[-5] == 0
    assert 450 <= late[0] <= 750


def test_paced_is_late_only_where_it_is_interrupted_if_it_is_interrupted():
    """And then by about the seconds of its pace."""
    seen = set()
    for seed in range(100):
        order = paced(seed, interrupts=Interrupts(Random(seed), 3, 4, 10))
        late = []
        for decision in range(30):
            order.pick(decision, [0], 0.0, None)
            late.append(order.seconds_late(0, 0.0))
            order._at = 0.0
        assert sum(seconds > 0 for seconds in late) <= 3
        seen.update(seconds for seconds in late if seconds)
    assert all(0.19 <= seconds <= 3.2 for seconds in seen)
    assert max(seen) > 1 > min(seen)
