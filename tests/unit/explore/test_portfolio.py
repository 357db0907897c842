"""The portfolio: what it begins with, what it draws, and what it learns of the body at hand."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest

from pytest_claude_tokens.search.portfolio import EARLY, LATENCIES, OPENING, ORDERS, Knowledge, Portfolio
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, FOR_GOOD, Latency, Schedule


def seen(schedule=DEFAULT_ORDER, *, decisions=30, first_leg=8, last_leg=12, legs=4, slept=()):
    """What a run shows of itself."""
    return SimpleNamespace(
        schedule=schedule, decisions=decisions, first_leg=first_leg, last_leg=last_leg, legs=legs, slept=slept, steps=()
    )


def drawn(number=2000, *, known=None, **options):
    """So many schedules, of a portfolio that has seen what is ``known``."""
    portfolio, random = Portfolio(3, **options), Random(1)
    if known is not None:
        portfolio.known.learn(known)
    return [portfolio.draw(random) for _ in range(number)]


def times_of(schedules):
    """All the milliseconds in there."""
    for schedule in schedules:
        yield from (time for time in (schedule.latency.milliseconds, schedule.scale) if time)
        yield from (deviation.length for deviation in schedule.deviations if deviation.what == "slow")


def test_it_opens_with_what_is_cheap_and_broad():
    """Requests that take long, and default order; then one of each kind that finds much; then it draws."""
    portfolio, random = Portfolio(2), Random(3)
    first, drew = [], []
    for _ in range(len(OPENING) + len(EARLY) + 1):
        first.append(portfolio.next(random))
        drew.append(portfolio.drew)
    assert drew == [False] * (len(first) - 1) + [True]
    assert first[: len(OPENING)] == [Schedule(latency=latency) for latency in OPENING]
    assert DEFAULT_ORDER in first[: len(OPENING)]
    early = [(one.kind, one.latency) for one in first[len(OPENING) : -1]]
    kinds = {"default": "deviations", "suspended": "deviations"}
    assert early == [(kinds.get(order, order), latency) for order, latency, _ in EARLY]
    assert len({one.seed for one in first[len(OPENING) :]}) == len(EARLY) + 1


@pytest.mark.parametrize(("slow", "longest", "scale"), [(6, 1_200, 2_000), (600, 120_000, 200_000)])
def test_its_first_times_are_in_proportion_to_what_there_is(slow, longest, scale):
    """But for those of a second and less: they are as long as what a program does."""
    portfolio, random = Portfolio(2, slow=slow), Random(3)
    first = [portfolio.next(random) for _ in range(len(OPENING) + len(EARLY))]
    assert first[0].latency == Latency("same", longest)
    assert {one.scale for one in first if one.scale} == {scale}
    assert {one.latency.milliseconds for one in first} >= {0, 1_000, 1_000 * slow}


def test_each_order_and_each_latency_comes_up_as_often_as_the_tables_say():
    """In every combination."""
    schedules = drawn(4000)
    kinds = Counter(schedule.kind for schedule in schedules)
    latencies = Counter(schedule.latency.kind for schedule in schedules)
    for order, weight in ORDERS.items():
        if order not in ("default", "deviations", "suspended"):
            assert 0.8 < kinds[order] / 4000 / (weight / sum(ORDERS.values())) < 1.2
    for latency, weight in LATENCIES.items():
        assert 0.75 < latencies[latency] / 4000 / (weight / sum(LATENCIES.values())) < 1.25
    pairs = {(schedule.kind, schedule.latency.kind) for schedule in schedules}
    assert len(pairs) == 4 * len(LATENCIES)


def test_one_seed_is_one_search():
    """Whatever it draws comes from the generator."""
    assert drawn(50) == drawn(50)


def test_times_reach_from_a_millisecond_to_fifty_seconds():
    """More of them are long than short: what a dispatcher loses its patience with takes seconds."""
    times = list(times_of(drawn()))
    assert 1 <= min(times) < 5
    assert 40_000 < max(time for time in times if time != 60_000) <= 50_000
    assert max(times) == 60_000  # all that there is, for one leg
    assert 0.4 < sum(time > 1000 for time in times) / len(times) < 0.8


@pytest.mark.parametrize(("slow", "longest"), [(0.5, 416), (6, 5_000), (600, 500_000)])
def test_times_reach_up_to_what_there_is(slow, longest):
    """Five sixths of it, so that something is left for a second one; one leg may take all."""
    schedules = drawn(slow=slow)
    assert 0.8 * longest < max(one.latency.milliseconds for one in schedules) <= longest
    assert max(times_of(schedules)) == 1_000 * slow


def test_one_schedule_in_ten_suspends_a_worker():
    """It goes on when nothing else can happen within the time that there is."""
    suspended = [one for one in drawn(2000) if any(each.length == FOR_GOOD for each in one.deviations)]
    assert 100 < len(suspended) < 250
    assert {one.deviations[0].target for one in suspended} == {0, 1, 2}
    assert suspended[0].text().split(" from ")[0].endswith(" is suspended")


def test_times_are_drawn_near_those_of_the_body():
    """A third of them, up to four times as long or as short; timers of another order of magnitude count as much."""
    known = seen(slept=[0.06, 0.061, 0.062, 30.0, 0.0, 1e-9, 1000.0])
    near = [time for time in times_of(drawn(known=known)) if 15 <= time <= 240]
    far = [time for time in times_of(drawn()) if 15 <= time <= 240]
    assert len(near) > 1.3 * len(far)


def test_positions_are_within_the_run_and_many_before_its_requests():
    """As far as it is known; otherwise most of them are early."""
    positions = [one.position for schedule in drawn(known=seen()) for one in schedule.deviations if one.what != "slow"]
    assert max(positions) < 35
    assert sum(position < 13 for position in positions) > len(positions) / 2
    unknown = [one.position for schedule in drawn() for one in schedule.deviations]
    assert 100 < max(unknown) < 120


def test_workers_die_only_where_they_may():
    """Two thirds of the runs, each way by itself."""
    assert not any(one.what in ("cancel", "kill") for schedule in drawn() for one in schedule.deviations)
    deaths = Counter(
        one.what
        for schedule in drawn(deaths=("cancel", "kill"))
        for one in schedule.deviations
        if one.what in ("cancel", "kill")
    )
    assert all(1200 < deaths[what] < 1466 for what in ("cancel", "kill"))


@pytest.mark.parametrize("kind", ["pct", "pos", "walk", "paced"])
def test_runs_in_random_orders_do_not_count_as_the_length_of_a_run(kind):
    """They have decisions of their own."""
    known = Knowledge()
    known.learn(seen(Schedule(kind)))
    assert known == Knowledge()


def test_latencies_are_no_timers_of_the_body():
    """Only runs in default order show those; the others show how long it may become."""
    known = Knowledge()
    known.learn(seen(slept=[2.0]))
    known.learn(seen(Schedule(latency=Latency("same", 1000)), decisions=50, legs=6, slept=[1.0]))
    assert list(known.waits.values()) == [2.0]
    assert (known.decisions, known.legs, known.first_leg, known.last_leg) == (50, 6, 8, 12)


def test_what_is_learnt_is_bounded():
    """A run of thousands of decisions does not make all deviations late."""
    known = Knowledge()
    known.learn(seen(decisions=90_000, first_leg=80_000, last_leg=85_000, legs=3000))
    assert max(known.decisions, known.first_leg, known.last_leg) == 400
    assert known.legs == 16


def test_of_a_body_with_timers_each_suspension_is_tried_early():
    """Every lease has to survive that its holder is suspended, wherever that is."""

    def places(*, timed, slow=60):
        portfolio = Portfolio(2, slow=slow)
        portfolio.known.timed = timed
        first = [portfolio.next(Random(3)) for _ in range(len(OPENING) + len(EARLY) + 3 * 10)]
        alone = [one.deviations[0] for one in first if one.latency == Latency() and len(one.deviations) == 1]
        return [(one.position, one.target) for one in alone if one.what == "freeze" and one.length == FOR_GOOD]

    every = {(position, target) for position in range(5) for target in range(2)}
    assert every <= set(places(timed=5))
    assert len(set(places(timed=300))) >= 10
    assert max(position for position, _ in places(timed=300)) > 50
    assert len(places(timed=0)) < 3
    assert len(places(timed=5, slow=0)) < 3


def test_whether_a_body_has_timers_its_run_in_default_order_shows():
    known = Knowledge()
    other = Schedule(seed=1)
    known.learn(seen(other, decisions=90, slept=(3.0,)))
    assert known.timed == 0
    known.learn(seen(DEFAULT_ORDER, decisions=9, slept=(3.0,)))
    assert known.timed == 9
    known.learn(seen(DEFAULT_ORDER, decisions=9, slept=()))
    assert known.timed == 0
