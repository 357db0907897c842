"""The first gear, where nothing but the schedule is drawn: many schedules in one call of Hypothesis's."""

from __future__ import annotations

import gc
import random
import sys

import pytest
from hypothesis import Phase, assume, event, note, register_random, settings, target
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.internal.conjecture.data import ConjectureData

from pytest_claude_tokens import explore
from pytest_claude_tokens.search import fuzz, hypothesis_engine
from pytest_claude_tokens.search.fuzz import Fuzzer
from pytest_claude_tokens.search.strategy import schedules
from tests.unit.explore.common import search, sound, unsound

quick = settings(database=None, max_examples=60)
rare = settings(database=None, max_examples=200, phases=[Phase.generate])


@pytest.fixture
def rolled(monkeypatch):
    """How many schedules each batch has counted."""
    gc.collect()  # a generator that another test has registered may still be there
    counts = []
    run_many = Fuzzer._run_many

    def counting(self, *args):
        before = self.tally.schedules
        try:
            return run_many(self, *args)
        finally:
            counts.append(self.tally.schedules - before)

    monkeypatch.setattr(Fuzzer, "_run_many", counting)
    return counts


def explored(*, body=sound, before=lambda runs: None, strategies=None, **options):
    """A test, and the list that each of its runs makes longer."""
    runs = []

    async def test_it(claude_tokens, workers, **drawn):
        runs.append(drawn)
        before(runs)
        await workers(body(claude_tokens).token)

    async def with_number(claude_tokens, workers, n):
        await test_it(claude_tokens, workers, n=n)

    return explore(**options, **(strategies or {}))(with_number if strategies else test_it), runs


def fail_late(runs):
    """The fortieth run fails, and each after it."""
    assert len(runs) < 40, "late"


def test_all_schedules_come_in_one_batch(rolled):
    """And not one more than were asked for."""
    test, _ = explored()
    assert search(quick(test), seed=1).report.schedules == 60
    assert rolled == [60]


@pytest.mark.parametrize(
    "options",
    [{"strategies": {"n": st.integers()}}, {"faults": st.just(None).filter(bool)}],
    ids=["arguments", "faults"],
)
def test_what_is_drawn_otherwise_is_left_to_hypothesis(options, rolled):
    """A portfolio draws nothing but schedules."""
    test, _ = explored(**options)
    search(quick(test), seed=1)
    assert rolled == []


def test_other_generators_are_left_to_hypothesis(rolled):
    """Whoever registers a generator of his own finds it seeded at the start of each schedule."""
    mine = random.Random(7)
    register_random(mine)
    drawn = []
    test, _ = explored(before=lambda runs: drawn.append(mine.random()))
    assert search(quick(test), seed=1).error is None
    assert rolled == [1] * 60
    assert len(set(drawn[:60])) == 1


def test_a_generator_that_comes_late_is_left_to_hypothesis_from_then_on(rolled, monkeypatch):
    """A body may import what registers one."""
    test, runs = explored()
    monkeypatch.setattr(fuzz, "has_other_generators", lambda: len(runs) >= 20)
    assert search(quick(test), seed=1).report.schedules == 60
    assert rolled == [20] + [1] * 40


def test_a_search_of_one_schedule_is_a_batch_of_one(rolled):
    """Nothing is left over for the next search."""
    test, runs = explored()
    one = settings(database=None, max_examples=1)(test)
    assert [search(one, seed=1).report.schedules for _ in range(2)] == [1, 1]
    assert rolled == [1, 1]
    assert len(runs) == 6


def test_numpys_generator_is_left_to_hypothesis(monkeypatch):
    """Hypothesis registers it as soon as somebody has imported it."""
    monkeypatch.setattr(hypothesis_engine.sys, "modules", {**sys.modules, "numpy": None})
    assert hypothesis_engine.has_other_generators()


def test_what_fails_in_a_batch_goes_into_the_example_database(rolled):
    """The next search begins with it."""
    kept = InMemoryExampleDatabase()
    test, _ = explored(before=fail_late)
    result = search(settings(rare, database=kept)(test), seed=3)
    assert isinstance(result.error, AssertionError)
    assert result.found.example == 40
    assert rolled == [40]
    assert any(kept.data.values())


def test_choices_stand_for_the_schedule():
    """Drawn anew from its choices, by Hypothesis, it is the same schedule."""
    source = random.Random(5)
    drawn = schedules(4, deaths=("cancel", "kill"))
    portfolio = drawn.portfolio()
    for _ in range(200):
        schedule = portfolio.next(source)
        assert ConjectureData.for_choices(drawn.written(schedule)).draw(drawn) == schedule


def test_a_race_is_found_in_a_batch(rolled):
    """And reported as ever, with the number of the schedule that showed it."""

    runs = []

    async def test_it(claude_tokens, workers):
        runs.append(1)
        await workers((unsound if len(runs) > 30 else sound)(claude_tokens).token)

    result = search(rare(explore()(test_it)), seed=1)
    assert type(result.error).__name__ == "DoubleSpend"
    assert result.found.example >= 31
    assert rolled


def test_hypothesis_helpers_work_in_a_body(rolled):
    """``note``, ``event``, ``target`` and ``assume``, in each schedule of a batch."""

    def before(runs):
        note("noted")
        event("seen")
        target(float(len(runs)), label="runs")
        assume(len(runs) % 3)

    test, runs = explored(before=before)
    result = search(quick(test), seed=1)
    assert result.error is None
    assert result.report.schedules == 60
    assert len(runs) > 80
    assert rolled == [60]


def test_a_batch_in_which_nothing_counts_comes_to_an_end(rolled):
    """Bodies that assume everything away are not run for ever."""

    def before(runs):
        assume(len(runs) < 20)

    test, runs = explored(before=before)
    assert search(quick(test), seed=1).report.schedules < 60
    assert len(runs) < 20 + 12 * 60


def test_an_interruption_comes_through(rolled):
    """It ends the search, and is no failure."""

    def before(runs):
        if len(runs) == 30:
            raise KeyboardInterrupt

    test, runs = explored(before=before)
    assert isinstance(search(quick(test), seed=1).error, KeyboardInterrupt)
    assert len(runs) == 30


def test_one_seed_is_one_search():
    """The batch depends on nothing but the seed."""

    def shown(seed):
        seen = []

        def before(runs):
            seen.append(random.random())  # it comes from the schedule's own seed

        test, _ = explored(before=before)
        search(quick(test), seed=seed)
        return seen

    assert shown(5) == shown(5) != shown(6)
