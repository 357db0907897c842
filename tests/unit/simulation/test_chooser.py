"""A chooser decides by itself whether it has to look at the candidates at all."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_claude_tokens.simulation.chooser import CLOCK, Chooser
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, UNTIL_LEG, Deviation, Schedule

NAMES = ("w0", "w1", "w2")


def decide(chooser: Chooser, *, timer: bool = False) -> tuple[int, list[str]]:
    """The answer to one question, and the candidates whose worker was asked for."""
    asked: list[str] = []

    def worker_of(name: str) -> int:
        asked.append(name)
        return int(name[1:])

    return chooser.next(NAMES, timer, worker_of), asked


def test_workers_are_asked_for_where_something_may_deviate_and_nowhere_else() -> None:
    """That costs most of a decision, and at most of them nothing can deviate."""
    chooser = Chooser(Schedule(deviations=(Deviation(2, "alone", 1, 1), Deviation(5, "freeze", 0, 1))), 3)
    answers = [decide(chooser) for _ in range(7)]

    assert [index for index, _ in answers] == [0, 0, 1, 0, 0, 1, 0]
    # At 3 and 6 it finds out that none holds any more.
    assert [len(asked) for _, asked in answers] == [0, 0, 3, 3, 0, 3, 3]
    assert [(one.position, one.what, one.target) for one in chooser.taken] == [(2, "alone", 1), (5, "alone", 1)]


@pytest.mark.parametrize("record", [False, True])
def test_each_question_is_a_decision(record: bool) -> None:
    """Whether candidates are looked at or not; with ``record`` they always are, for the options."""
    chooser = Chooser(DEFAULT_ORDER, 3, record=record)
    answers = [decide(chooser, timer=True) for _ in range(3)]

    assert chooser.decision == 3
    assert [asked for _, asked in answers] == [list(NAMES) if record else []] * 3
    assert chooser.options == ([(("alone", 1), ("alone", 2), ("clock", 0))] * 3 if record else None)


def test_clock_is_an_answer_only_where_it_is_allowed() -> None:
    """The same schedule, with and without a timer."""
    schedule = Schedule(deviations=(Deviation(0, "clock", 0, 1),))

    assert decide(Chooser(schedule, 3), timer=True)[0] == CLOCK
    assert decide(Chooser(schedule, 3), timer=False)[0] == 0


@pytest.mark.parametrize("kind", ["deviations", "walk"])
def test_who_was_preempted_is_frozen_but_in_a_random_order(kind: Any) -> None:
    """There, others come first as it is: the order goes on as it would have."""
    plain, holding = (Chooser(Schedule(kind=kind, seed=3), 3) for _ in range(2))
    holding.hold(0, 5)
    answers = [[decide(chooser)[0] for _ in range(8)] for chooser in (plain, holding)]

    assert answers[1] == ([1] * 5 + [0] * 3 if kind == "deviations" else answers[0])


@pytest.mark.parametrize(("worker", "left"), [(1, 0), (0, 4)])
def test_who_was_preempted_is_away_until_a_leg_of_another_begins(worker: int, left: int) -> None:
    """Its own, such as that of a job of its own, is none."""
    chooser = Chooser(DEFAULT_ORDER, 3)
    chooser.hold(0, UNTIL_LEG)
    before = [decide(chooser)[0] for _ in range(4)]
    chooser.note_leg(0, worker)

    assert before == [1] * 4
    assert [decide(chooser)[0] for _ in range(4)] == [1] * left + [0] * (4 - left)


def test_a_preemption_after_the_end_does_not_bring_the_random_order_back() -> None:
    chooser = Chooser(Schedule(kind="walk", seed=3), 3)
    chooser.end()
    chooser.hold(0, 5)

    assert decide(chooser) == (0, [])


def test_one_that_has_ended_asks_no_more() -> None:
    """From the end of the body on all goes in default order."""
    chooser = Chooser(Schedule(kind="walk", seed=3), 3)
    chooser.end()

    assert decide(chooser, timer=True) == (0, [])


def test_late_steps_are_those_that_the_schedule_names() -> None:
    """By the number of the step, whoever takes it; and none when the body has ended."""
    chooser = Chooser(Schedule(deviations=(Deviation(7, "late", 1, 1500),)), 3)

    assert [chooser.seconds_late(step, 0, 3.0) for step in (6, 7, 8)] == [0.0, 1.5, 0.0]
    chooser.end()
    assert chooser.late is None
    assert Chooser(DEFAULT_ORDER, 3).late is None


def test_late_steps_of_a_paced_run_are_recorded() -> None:
    """In whole milliseconds, with the worker that was late."""
    chooser = Chooser(Schedule("paced", seed=5, scale=5000), 1)
    seconds: list[float] = []
    for step in range(200):
        chooser.choose([0], False, 0.0)
        chooser.decision += 1
        seconds.append(chooser.seconds_late(step, 0, sum(seconds)))

    late = [(step, round(1000 * each)) for step, each in enumerate(seconds) if each]
    assert len(late) > 20
    assert [(one.position, one.length) for one in chooser.lates] == late
    assert {(one.what, one.target) for one in chooser.lates} == {("late", 0)}


def test_note_of_a_leg_goes_to_whoever_draws_the_order() -> None:
    """Nobody else asks for it."""
    Chooser(DEFAULT_ORDER, 2).note_leg(0, 1)
    for seed in range(20):  # half of them count steps from there
        Chooser(Schedule("pct", seed=seed), 2).note_leg(0, 1)
