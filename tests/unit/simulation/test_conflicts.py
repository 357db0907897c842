"""Which accesses of a run conflict, and how promising it is to preempt a thread before them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_claude_tokens.report.raced_lines import raced_lines
from pytest_claude_tokens.search.points import Points
from pytest_claude_tokens.simulation.accesses import Access
from pytest_claude_tokens.simulation.conflicts import BETWEEN, CONFLICT, UNNAMED, classes, points
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, FOR_GOOD, UNTIL_LEG, Latency, Schedule
from pytest_claude_tokens.simulation.watch import Step

BOX, OTHER = (1, "Box"), (2, "Box")


def steps(*told, locks=()):
    """Steps in words: ``0r`` is thread 0 that reads the box, ``1w:a`` thread 1 that writes its item a."""
    made = []
    for number, one in enumerate(told):
        what, _, key = one.partition(":")
        owner = None if "?" in what else OTHER if "o" in what else BOX
        access = Access(place=f"x.py:{number}", kind="attribute", write=False, name="n", line="x.py:1", words="x.py:1")
        thread = int(what[0])
        touched = ((owner, "n", key or "*", "w" in what),)
        held = frozenset({1}) if "l" in what else frozenset()
        made.append(Step(thread, thread, access, 0, touched, held, number, True))
    return made


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (["0r", "1r"], {}),  # nobody writes
        (["0w", "0w"], {}),  # nobody else
        (["0w", "1wo"], {}),  # another object
        (["0w:a", "1w:b"], {}),  # another item
        (["0wl", "1wl"], {}),  # one lock
        (["0w", "1w"], {0: CONFLICT, 1: CONFLICT}),
        (["0w:a", "1r"], {0: CONFLICT, 1: CONFLICT}),
        (["0wl", "1w"], {0: CONFLICT, 1: CONFLICT}),
        (["0r", "0w", "1w"], {0: CONFLICT, 1: BETWEEN, 2: CONFLICT}),
        (["0r", "0r", "1w"], {0: CONFLICT, 1: BETWEEN, 2: CONFLICT}),
        (["0w", "0w", "1w"], {0: CONFLICT, 1: CONFLICT, 2: CONFLICT}),  # the others come before or after both
        (["0rl", "0wl", "1w"], {0: CONFLICT, 1: CONFLICT, 2: CONFLICT}),  # in one section, it seems
        (["0w?", "1r"], {0: UNNAMED, 1: CONFLICT}),
        (["0r?", "1r?"], {}),
    ],
)
def test_before_which_accesses_it_matters_who_goes_on(told, wanted):
    assert {int(place.partition(":")[2]): rank for (_, place, _), rank in points(steps(*told)).items()} == wanted


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (["0w", "0wo", "0wo", "1r"], {0: CONFLICT, 1: UNNAMED, 3: CONFLICT}),
        (["0w", "0ro", "0wo", "1r"], {0: CONFLICT, 2: UNNAMED, 3: CONFLICT}),
        (["0w", "1r", "1r", "0wo"], {0: CONFLICT, 1: CONFLICT, 2: BETWEEN, 3: UNNAMED}),
        (["0r", "0wo", "1w"], {0: CONFLICT, 2: CONFLICT}),
    ],
)
def test_who_has_published_something_may_lose_its_turn_before_it_is_complete(told, wanted):
    """At its next write, if it has not come by a decision since: there it loses its turn without our help."""
    made = [replace(step, decision=0) for step in steps(*told)]
    assert {int(place.partition(":")[2]): rank for (_, place, _), rank in points(made).items()} == wanted
    later = [replace(step, decision=number) for number, step in enumerate(made)]
    assert UNNAMED not in points(later).values()


def test_where_nobody_else_can_run_nobody_is_preempted():
    made = [replace(step, others=False) for step in steps("0w", "1w")]
    assert points(made) == {}


def test_runs_are_told_apart_by_the_order_of_conflicting_accesses():
    """The order of reads among one another says nothing."""
    write, one, two, away = steps("0w", "1r", "2r", "1ro")
    assert classes([write, one, two, away]) == classes([away, write, two, one])
    assert classes([write, one, two]) != classes([one, write, two])


def test_a_point_is_tried_once_and_as_what_it_turned_out_to_be():
    """One that is seen to be promising later on is tried before the others; and not again as what it was before."""
    known: Any = Points()
    random, plain, promising = Random(1), steps("0w", "1w"), steps("0r", "0w", "1w")
    promising[1] = replace(promising[1], access=plain[0].access)
    for run in ((), plain, promising):
        known.learn(ran(run))
    tried = tried_alone(known, random)
    assert len(tried) == len(set(tried)) == 3 * len(known)
    assert [length for _, length in tried] == [length for length in (1, UNTIL_LEG, FOR_GOOD) for _ in range(len(known))]


def test_a_place_that_a_loop_comes_to_again_and_again_outweighs_no_other():
    """Neither where points are tried alone nor where they are combined."""
    looking, setting = steps("0r", "1w")
    looks = [replace(looking, times=times) for times in range(300)]
    known: Any = Points()
    known.learn(ran([*looks, setting]))
    assert len(known) == 301
    alone = {known.alone(Random(1)).place for _ in range(4)}
    combined = Counter(
        deviation.place for seed in range(50) for deviation in known.among(Random(seed), DEFAULT_ORDER).deviations
    )
    assert alone == {looking.access.place, setting.access.place}
    assert combined[setting.access.place] > combined[looking.access.place] / 10  # less promising by a factor of four


def test_each_place_is_tried_by_one_worker_before_it_is_by_all():
    """Workers mostly do the same: of what they do at one place, the others' tries come after all other places."""
    known: Any = Points()
    four = steps("0w", "0w", "1w", "1w")
    places = ["a.py:1", "b.py:2", "a.py:1", "b.py:2"]
    known.learn(ran([replace(one, access=replace(one.access, place=at)) for one, at in zip(four, places, strict=True)]))
    assert sorted(known.alone(Random(1)).place for _ in range(2)) == ["a.py:1", "b.py:2"]
    assert sorted(known.alone(Random(2)).place for _ in range(2)) == ["a.py:1", "b.py:2"]


def ran(steps, schedule=DEFAULT_ORDER):
    return SimpleNamespace(steps=steps, schedule=schedule)


def tried_alone(known, random):
    """The place and the length of each preemption."""
    tried = []
    while (deviation := known.alone(random)) is not None:
        tried.append((deviation.place, deviation.length))
    return tried


def test_where_the_others_sleep_a_thread_is_away_until_they_meet_it():
    """Tried in turn with the other points. Who sleeps in another order waits for a reply, or was made late."""
    known: Any = Points()
    first, other = steps("0w", "1w")
    alone = [replace(first, others=False, sleepers=True), replace(other, others=False)]
    known.learn(ran(alone, Schedule(latency=Latency("same", 12_000))))
    known.learn(ran(alone, Schedule(kind="paced")))
    assert len(known) == 0
    assert points(alone) == {}
    known.learn(ran(alone))
    known.learn(
        ran([replace(step, access=replace(step.access, place=f"y{n}")) for n, step in enumerate((first, other))])
    )
    tried = tried_alone(known, Random(1))
    assert sorted(tried[:2]) in ([("x.py:0", UNTIL_LEG), ("y0", 1)], [("x.py:0", UNTIL_LEG), ("y1", 1)])
    assert len(tried) == 2 + 2 * 3


def test_where_nothing_was_touched_by_others_no_lines_have_raced():
    first, other = steps("0w", "1wo")
    assert raced_lines([replace(first, touched=()), other, first]) == ""
    assert raced_lines([first, replace(first, touched=()), other, first]) == ""
