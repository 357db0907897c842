"""How a counterexample says that it was found, made shorter and repeated."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_claude_tokens.search.confirm import Counterexample, _watched
from pytest_claude_tokens.search.shrink import as_deviations
from pytest_claude_tokens.search.tally import Failure
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, Schedule

FROZEN = Deviation(3, "freeze", 1, 5)
SLOW = Deviation(0, "slow", 0, 2)


def found(schedule, before, **more):
    outcome = SimpleNamespace(schedule=schedule, held=(), words={}, steps=())
    return Counterexample(
        best=Failure(outcome=outcome, **more), example=7, deviations_before=before, replayed=(3, 3)
    ).remarks()


@pytest.mark.parametrize(
    ("schedule", "before", "says"),
    [
        (Schedule(deviations=(FROZEN,)), 3, "schedule 7; shrunk from 3 deviations to 1; replayed 3/3"),
        (DEFAULT_ORDER, 1, "schedule 7; shrunk from 1 deviation to 0; replayed 3/3"),
        (Schedule(deviations=(FROZEN,)), 1, "schedule 7; replayed 3/3"),
        (Schedule(deviations=(FROZEN,)), 0, "schedule 7; replayed 3/3"),
        (Schedule(kind="walk", seed=5), 9, "schedule 7; replayed 3/3"),
    ],
    ids=["fewer", "one", "as many", "more", "still a walk"],
)
def test_only_a_schedule_that_has_become_shorter_is_called_shrunk(schedule, before, says):
    """A walk that could not be told by deviations has as many as before, whatever its list says."""
    assert found(schedule, before)[0] == says


def test_the_arguments_are_shown_by_name():
    """After the order."""
    assert found(DEFAULT_ORDER, 0, arguments={"n": "3", "a": "'x'"})[1:] == ["order: default order", "with a='x', n=3"]


def test_a_walk_counts_the_deviations_that_its_run_recorded():
    """Neighbours of one kind are one; what is no matter of order stays."""
    taken = (Deviation(2, "alone", 1, 1), Deviation(3, "alone", 1, 1), Deviation(9, "clock", 0, 1))
    walk = Schedule(kind="walk", seed=5, deviations=(FROZEN, SLOW))
    late = Deviation(4, "late", 1, 20)
    outcome = SimpleNamespace(schedule=walk, taken=taken, freezes=(FROZEN,), slow=(late,))
    told = (Deviation(2, "alone", 1, 2), Deviation(9, "clock", 0, 1))
    assert as_deviations(outcome) == Schedule(seed=5, deviations=(*told, late, SLOW))
    assert as_deviations(outcome, frozen=True) == Schedule(seed=5, deviations=(FROZEN, late, SLOW))
    facts = Schedule(deviations=(FROZEN,))
    assert as_deviations(SimpleNamespace(schedule=facts)) is facts


def test_a_witness_that_disturbs_a_run_is_not_heard():
    """What it has seen is of another run; the failure is told without it."""
    best = SimpleNamespace(lines=lambda times: ["one"], schedule=DEFAULT_ORDER, in_real_time=False)
    other = SimpleNamespace(outcome=SimpleNamespace(lines=lambda times: ["another"], in_real_time=False))

    assert _watched(best, lambda schedule: other) is best
