"""A schedule says who goes on; a chooser obeys it, and notes where it departed from default order."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_server.faults import Fault
from pytest_claude_tokens.simulation.accesses import PLACES
from pytest_claude_tokens.simulation.chooser import CLOCK, Chooser
from pytest_claude_tokens.simulation.schedule import (
    DEFAULT_ORDER,
    EACH_LEG,
    FOR_GOOD,
    UNTIL_LEG,
    Deviation,
    Latency,
    PlannedFault,
    Schedule,
)
from pytest_claude_tokens.simulation.thread_record import worker_number
from tests.unit.simulation.worlds import schedules

QUEUES = st.lists(
    st.tuples(st.lists(st.integers(-3, 3), min_size=1, max_size=5), st.booleans()), min_size=1, max_size=50
)


def choices(schedule, queues, *, record=False):
    """The answers of a chooser to these questions, and the chooser."""
    chooser = Chooser(schedule, 4, record=record)
    answers = []
    for ready, timer in queues:
        answers.append(chooser.next(ready, timer, int))
    return answers, chooser


@given(QUEUES)
def test_no_facts_mean_first_come_first_served(queues):
    """Default order takes the first one, and lets no timer fire early."""
    answers, chooser = choices(DEFAULT_ORDER, queues)
    assert set(answers) == {0}
    assert chooser.taken == []


@given(schedules(), QUEUES)
def test_answer_is_one_that_can_run_or_the_clock_where_there_is_a_timer(schedule, queues):
    """No schedule, however it was drawn, can make a chooser answer what is not there."""
    answers, _ = choices(schedule, queues)
    for answer, (ready, timer) in zip(answers, queues, strict=True):
        assert answer in range(len(ready)) or (answer == CLOCK and timer)


@given(schedules(), QUEUES)
def test_departures_taken_are_facts_that_depart_in_the_same_way(schedule, queues):
    """A run under any kind of schedule can be told, and repeated, as a list of deviations."""
    answers, chooser = choices(schedule, queues)
    again, repeated = choices(Schedule(deviations=tuple(chooser.taken)), queues)
    assert again == answers
    assert repeated.taken == chooser.taken


WORKERS = st.lists(
    st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.booleans()), min_size=1, max_size=50
)


@given(st.sampled_from(["pct", "pos", "walk", "paced"]), st.integers(0, 500), WORKERS)
def test_random_order_can_be_told_as_workers_that_were_frozen(kind, seed, queues):
    """In no more facts than there are turns, and it is the same order again."""
    answers, chooser = choices(Schedule(kind, seed=seed, scale=100), queues)
    freezes = chooser.as_freezes()
    again, _ = choices(Schedule(deviations=freezes), queues)
    assert again == answers
    assert {one.what for one in freezes} <= {"freeze"}
    assert list(freezes) == sorted(freezes)


@given(schedules(), QUEUES)
def test_options_are_the_departures_that_were_possible(schedule, queues):
    """Each deviation that was taken had been on offer, and no two options of one decision mean the same."""
    _, chooser = choices(schedule, queues, record=True)
    for deviation in chooser.taken:
        assert (deviation.what, deviation.target) in chooser.options[deviation.position]
    for options in chooser.options:
        assert len(set(options)) == len(options)


@given(QUEUES)
def test_each_option_leads_to_another_answer(queues):
    """What is on offer at one decision differs in the worker that goes on, or in the clock."""
    _, chooser = choices(DEFAULT_ORDER, queues, record=True)
    for position, options in enumerate(chooser.options):
        ready, _ = queues[position]
        found = set()
        for what, who in options:
            answers, _ = choices(Schedule(deviations=(Deviation(position, what, who, 1),)), queues)
            found.add("clock" if answers[position] == CLOCK else ready[answers[position]])
        assert len(found) == len(options)
        assert ready[0] not in found


def test_frozen_worker_waits_while_others_can_run():
    """It goes on when it is alone; where a timer can fire, that comes first."""
    schedule = Schedule(deviations=(Deviation(0, "freeze", 0, 3),))
    assert choices(schedule, [([0, 1], False), ([0], False), ([0], True), ([0, 1], False)])[0] == [1, 0, CLOCK, 0]


def test_frozen_body_is_whoever_is_no_worker():
    """-1 stands for all that works for no worker."""
    schedule = Schedule(deviations=(Deviation(0, "freeze", -1, 2),))
    assert choices(schedule, [([-2, -1, 1], False), ([-3], False)])[0] == [2, 0]


def test_worker_alone_goes_on_while_it_can():
    """The others wait; where it can't run, default order holds."""
    schedule = Schedule(deviations=(Deviation(1, "alone", 1, 2),))
    assert choices(schedule, [([0, 1], False), ([0, 1], False), ([0, 2], False), ([0, 1], False)])[0] == [0, 1, 0, 0]


def test_body_alone_is_itself_else_anything_that_is_no_worker():
    """An exact -1 goes before other negative numbers: the recorded deviation must lead to the same one again."""
    schedule = Schedule(deviations=(Deviation(0, "alone", -1, 3),))
    assert choices(schedule, [([0, -2, -1], False), ([0, -2], False), ([0, 1], False)])[0] == [2, 1, 0]


def test_clock_fires_only_where_there_is_a_timer():
    """Without a timer there is nothing to fire, and default order holds."""
    schedule = Schedule(deviations=(Deviation(0, "clock", 0, 2),))
    assert choices(schedule, [([0, 1], True), ([0, 1], False), ([0, 1], True)])[0] == [CLOCK, 0, 0]


def test_first_fact_of_two_at_once_decides():
    """Facts are obeyed in the order of their position, then of their kind."""
    both = Schedule(deviations=(Deviation(0, "clock", 0, 1), Deviation(0, "alone", 1, 1)))
    assert choices(both, [([0, 1], True)])[0] == [1]


@pytest.mark.parametrize("kind", ["pct", "pos", "walk", "paced"])
def test_random_kinds_are_their_seed(kind):
    """One seed gives one order; some seeds give different ones."""
    queues = [([0, 1, 2], number % 3 == 0) for number in range(60)]
    by_seed = [choices(Schedule(kind=kind, seed=seed, scale=1000), queues)[0] for seed in range(8)]
    assert by_seed == [choices(Schedule(kind=kind, seed=seed, scale=1000), queues)[0] for seed in range(8)]
    assert len({tuple(answers) for answers in by_seed}) > 4


def test_walk_reaches_every_worker_and_the_clock():
    """Nobody who can run is left out."""
    answers, _ = choices(Schedule(kind="walk", seed=1), [([0, 1, 2], True)] * 400)
    assert set(answers) == {0, 1, 2, CLOCK}


def test_pct_keeps_to_one_worker_until_its_priority_changes():
    """Few changes: that is what it is for."""
    answers, _ = choices(Schedule(kind="pct", seed=2), [([0, 1, 2], False)] * 60)
    assert sum(a != b for a, b in pairwise(answers)) <= 3


def test_ended_chooser_departs_no_more():
    """When the body is over the rest goes in default order, and nobody dies."""
    for kind in ("deviations", "walk"):
        chooser = Chooser(Schedule(kind=kind, deviations=(Deviation(0, "alone", 1, 34), Deviation(3, "kill", 0, 1))), 2)
        chooser.end()
        assert chooser.default_until > 1000
        assert chooser.deaths == []


def test_deaths_and_slow_legs_are_no_business_of_the_order():
    """They are kept apart: the chooser only hands the deaths out, in order."""
    deviations = (Deviation(9, "kill", 1, 1), Deviation(2, "cancel", 0, 1), Deviation(1, "slow", 0, 3))
    chooser = Chooser(Schedule(deviations=deviations), 2)
    assert chooser.deaths == [Deviation(2, "cancel", 0, 1), Deviation(9, "kill", 1, 1)]
    assert chooser.default_until > 1000


@pytest.mark.parametrize(
    ("deviation", "text"),
    [
        (Deviation(3, "freeze", 1, 5), "w1 is frozen for 5 decisions from decision 3"),
        (Deviation(0, "alone", -1, 2), "the body runs alone for 2 decisions from decision 0"),
        (Deviation(4, "clock", 0, 8), "timers fire early for 8 decisions from decision 4"),
        (Deviation(4, "freeze", 0, 1), "w0 is frozen for 1 decision from decision 4"),
        (Deviation(2, "slow", 0, 4050), "network leg 2 takes 4.05 s"),
        (Deviation(EACH_LEG, "slow", 0, 12_000), "each network leg takes 12 s"),
        (Deviation(17, "late", 1, 300), "w1 is late by 0.3 s at step 17"),
        (Deviation(7, "cancel", 0, 1), "w0 is cancelled at decision 7"),
        (Deviation(7, "kill", 2, 1), "w2 is killed at decision 7"),
        (Deviation(7, "kill", 2, 15), "w2 gets SIGTERM at decision 7"),
        (Deviation(7, "kill", 2, 2), "w2 gets SIGINT at decision 7"),
        (Deviation(4, "freeze", 0, FOR_GOOD), "w0 is suspended from decision 4 on"),
        (Deviation(0, "preempt", 0, 1, "a.py:32:9:x"), "w0 is preempted before a.py:32"),
        (Deviation(0, "preempt", 0, 2, "a.py:32:9:x"), "w0 is preempted before a.py:32, for 2 decisions"),
        (
            Deviation(1, "preempt", -1, UNTIL_LEG, "a.py:32:9:x"),
            "the body is preempted before a.py:32, 2nd time there, until another's request or reply is under way",
        ),
    ],
)
def test_fact_reads_as_a_sentence(deviation, text):
    """Each kind has its words."""
    assert deviation.text() == text


@pytest.mark.parametrize(
    ("times", "words"),
    [
        *[(1, "2nd"), (2, "3rd"), (3, "4th"), (9, "10th"), (10, "11th"), (11, "12th"), (12, "13th"), (20, "21st")],
        *[(100, "101st"), (110, "111th"), (111, "112th"), (112, "113th"), (121, "122nd")],
    ],
)
def test_how_often_a_thread_has_been_there_is_an_ordinal(times, words):
    assert (
        Deviation(times, "preempt", 0, 1, "a.py:1:2:x").text() == f"w0 is preempted before a.py:1, {words} time there"
    )


def test_a_place_that_was_seen_is_told_in_its_own_words(monkeypatch):
    """Line and code; of one that this process never read, file and line are known all the same."""
    seen = SimpleNamespace(words="a.py:1 self.token = reply")
    monkeypatch.setitem(PLACES, "a.py:1:2:x", seen)
    assert Deviation(0, "preempt", 0, 1, "a.py:1:2:x").text() == "w0 is preempted before a.py:1 self.token = reply"


def test_schedule_reads_as_a_sentence():
    """Facts, planned_faults, and the seed of a random kind; without any of them, default order."""
    assert DEFAULT_ORDER.text() == "default order"
    planned_faults = (PlannedFault(0, "token", Fault.RESET), PlannedFault(1, "call", Fault.status(503)))
    schedule = Schedule("pct", (Deviation(3, "freeze", 1, 5),), 7, planned_faults)
    assert schedule.text() == (
        "pct with seed 7; w1 is frozen for 5 decisions from decision 3; "
        f"token request 1 meets {Fault.RESET}; call 2 meets {Fault.status(503)}"
    )
    assert Schedule(latency=Latency("same", 1500)).text() == "same latencies of 1.5 s"
    frozen = Deviation(3, "freeze", 1, 5)
    late = Schedule("walk", (frozen, Deviation(7, "cancel", 0, 1)), 9, latency=Latency("heavy", 20))
    assert late.text({frozen: "w1 has rt#1"}) == (
        "walk with seed 9; heavy latencies of 0.02 s; w1 has rt#1 [w1 is frozen for 5 decisions from decision 3]; "
        "w0 is cancelled at decision 7"
    )


@pytest.mark.parametrize(
    ("name", "number"), [("w0", 0), ("w12", 12), ("w", -1), ("worker", -1), ("w1x", -1), ("w²", -1), (None, -1)]
)
def test_number_of_a_worker_is_read_from_its_name(name, number):
    """Anything but w and decimal digits is nobody."""
    assert worker_number(name) == number
