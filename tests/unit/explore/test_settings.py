"""How many schedules a search draws, of what seed, and what the example database keeps of it."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import hello, search, sound, unsound


def counted(decorate, *, body=sound):
    """A test and the list that each run of its body makes longer."""
    runs = []

    async def test_it(claude_tokens, workers):
        runs.append(1)
        await workers(body(claude_tokens).token)

    return decorate(test_it), runs


# How many.


@pytest.mark.parametrize(
    "decorate",
    [
        lambda test: settings(max_examples=37)(explore()(test)),
        lambda test: explore()(settings(max_examples=37)(test)),
    ],
    ids=["above", "below"],
)
def test_max_examples_bounds_both_gears_together(decorate):
    """The schedules are exactly as many, wherever the settings stand; two more compare default order with itself."""
    test, runs = counted(decorate)
    result = search(test, seed=1)
    assert result.error is None
    assert result.report.schedules == 37
    assert len(runs) == 37 + 2


@pytest.mark.parametrize("number", [1, 2, 9, 11])
def test_small_numbers_are_kept_to_as_well(number):
    """One schedule is one schedule."""
    test, _ = counted(lambda test: settings(max_examples=number)(explore()(test)))
    assert search(test).report.schedules == number


def test_the_command_line_outranks_the_settings():
    """``--claude-tokens-examples`` before ``@settings``."""
    test, _ = counted(lambda test: settings(max_examples=37)(explore()(test)))
    assert search(test, examples=12).report.schedules == 12


def test_the_profile_counts_where_there_are_no_settings():
    """As with any test of Hypothesis."""
    test, _ = counted(explore())
    settings.register_profile("as before", settings.default)
    settings.register_profile("seven", settings(max_examples=7))
    settings.load_profile("seven")
    try:
        assert search(test).report.schedules == 7
    finally:
        settings.load_profile("as before")


# Seeds.


def schedules_of(decorate, **context):
    """Which arguments a search draws, in order."""
    drawn = []

    async def test_it(claude_tokens, workers, n):
        drawn.append(n)
        await workers(hello)

    test = decorate(explore(n=st.integers(0, 10_000))(test_it))
    assert search(test, **context).error is None
    return drawn


@pytest.mark.parametrize(
    ("decorate", "context"),
    [
        (settings(max_examples=30, database=None), {"seed": 5}),
        (lambda test: hypothesis.seed(5)(settings(max_examples=30, database=None)(test)), {}),
        (settings(max_examples=30, database=None, derandomize=True), {}),
    ],
    ids=["command line", "@seed", "derandomize"],
)
def test_a_seed_draws_the_same_schedules_each_time(decorate, context):
    """In both gears."""
    first, second = (schedules_of(decorate, **context) for _ in range(2))
    assert first == second
    assert len(set(first)) > 10


def test_without_a_seed_each_search_draws_others():
    """Or the hundredth run of a suite would look at nothing new."""
    first, second = (schedules_of(settings(max_examples=30, database=None, derandomize=False)) for _ in range(2))
    assert first != second


# The example database.


def test_a_failure_found_once_comes_first_in_the_next_run():
    """Out of the database: whatever is drawn, the first schedule that runs is the one that failed."""
    database = InMemoryExampleDatabase()
    bad = []

    async def test_it(claude_tokens, workers, n):
        bad.append(n)
        await workers((unsound if n > 600 else sound)(claude_tokens).token)

    test = settings(max_examples=200, database=database)(explore(n=st.integers(0, 1000))(test_it))
    result = search(test)
    assert isinstance(result.error, DoubleSpend)
    assert "with n=601" in result.notes
    bad.clear()
    assert isinstance(search(test).error, DoubleSpend)
    assert bad[0] == 601


def test_a_failure_that_the_quick_gear_found_is_in_the_database_too():
    """Which gear found it makes no difference for the next run."""
    seen = []

    async def test_it(claude_tokens, workers, n):
        seen.append(n)
        await workers((unsound if n % 40 == 7 else sound)(claude_tokens).token)

    for seed in range(20):  # what a seed draws differs between Pythons; the engine's gear has the first ten
        test = settings(max_examples=100, database=InMemoryExampleDatabase())(
            explore(n=st.integers(0, 10_000))(test_it)
        )
        found = search(test, seed=seed).found
        if found is not None and found.example > 10:
            break
    else:
        pytest.fail("none of 20 seeds finds it after the first ten schedules")
    seen.clear()
    assert isinstance(search(test).error, DoubleSpend)
    assert seen[0] % 40 == 7


def test_two_tests_do_not_share_their_failures():
    """The database files each under its own name."""
    database = InMemoryExampleDatabase()

    def made(name, body):
        async def test_it(claude_tokens, workers):
            await workers(body(claude_tokens).token)

        test_it.__qualname__ = name
        return settings(max_examples=20, database=database)(explore()(test_it))

    assert search(made("one", unsound)).error
    before = len(database.data)
    other = search(made("two", sound))
    assert other.error is None
    assert other.report.schedules == 20
    assert len(database.data) == before


class Full(InMemoryExampleDatabase):
    """Takes nothing, as a folder on a full or read-only disk."""

    def save(self, key, value):
        pass


@pytest.mark.parametrize("database", [None, Full()])
def test_it_works_without_a_database(database):
    """What the quick gear finds is still shrunk."""

    async def test_it(claude_tokens, workers, n):
        await workers((unsound if n > 600 else sound)(claude_tokens).token)

    test = settings(max_examples=200, database=database)(explore(n=st.integers(0, 1000))(test_it))
    result = search(test)
    assert isinstance(result.error, DoubleSpend)
    assert "with n=601" in result.notes
