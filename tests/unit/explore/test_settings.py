"""It is Hypothesis underneath: its settings, seeds, examples, phases and database do here what they always do."""

from __future__ import annotations

import asyncio
import re

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, Verbosity, assume, example, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.errors import DidNotReproduce, FailedHealthCheck, InvalidArgument, Unsatisfiable

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import hello, search, sound, unsound

quick = settings(database=None, derandomize=True)


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
    """The schedules are exactly as many, wherever the settings stand; two more runs compare stock order with itself."""
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
    database = InMemoryExampleDatabase()
    seen = []

    async def test_it(claude_tokens, workers, n):
        seen.append(n)
        await workers((unsound if n % 40 == 7 else sound)(claude_tokens).token)

    test = settings(max_examples=100, database=database)(explore(n=st.integers(0, 10_000))(test_it))
    assert search(test, seed=1).found.example > 10
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


# Explicit examples, and failures told by blob.


@pytest.mark.parametrize("order", ["above", "below"])
def test_an_explicit_example_runs_in_stock_order_before_anything_is_drawn(order):
    """It names the test's own arguments only."""
    seen = []

    async def test_it(claude_tokens, workers, n):
        seen.append(n)
        await workers(hello)

    strategies = {"n": st.integers(0, 5)}
    chosen = settings(quick, max_examples=5)
    if order == "above":
        test = chosen(example(n=77)(explore(**strategies)(test_it)))
    else:
        test = chosen(explore(**strategies)(example(n=77)(test_it)))
    assert search(test).error is None
    assert seen[0] == 77
    assert 77 not in seen[1:]


def test_a_failing_example_is_told_with_its_arguments():
    """And nothing else is run."""

    @example(n=77)
    @quick
    @explore(n=st.integers(0, 5))
    async def test_it(claude_tokens, workers, n):
        await workers((unsound if n == 77 else sound)(claude_tokens).token)

    result = search(test_it)
    assert isinstance(result.error, DoubleSpend)
    assert result.notes == ["with n=77"]
    assert result.found.schedule.text() == "stock order"
    assert search(test_it, replay=result.found.token).error.args == result.error.args


def test_examples_come_as_they_were_to_each_repeat():
    """Although the body uses them up; what can't be copied is given as it is."""

    @example(steps=[1, 2], other=iter([1]))
    @quick
    @explore(steps=st.lists(st.integers()), other=st.none())
    async def test_it(claude_tokens, workers, steps, other):
        while steps:
            steps.pop()
            await hello()
        await workers(unsound(claude_tokens).token)

    result = search(test_it)
    assert isinstance(result.error, DoubleSpend)
    assert result.found.replayed == (3, 3)
    assert any("steps=[1, 2]" in note for note in result.notes)
    assert len(result.found.history.operations) == 4


def test_a_generator_among_the_examples_is_given_as_it_is():
    """It can't be copied."""

    @example(n=(number for number in (1, 2)))
    @quick
    @explore(n=st.none())
    async def test_it(claude_tokens, workers, n):
        await workers(unsound(claude_tokens).token)

    assert isinstance(search(test_it).error, DoubleSpend)


def test_a_positional_example_is_for_the_last_arguments():
    """As Hypothesis has it: what is given by position fills the body's arguments from the end."""
    seen = []

    @example("b", 7)
    @settings(quick, max_examples=2)
    @explore(n=st.integers(0, 5), letter=st.just("a"))
    async def test_it(claude_tokens, workers, letter, n):
        seen.append((letter, n))
        await workers(hello)

    assert search(test_it).error is None
    assert seen[0] == ("b", 7)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (example(1, 2), "@example(1, 2): it names each of the test's strategies, as in @example(n=…), and runs in "),
        (example(m=1), "@example(m=1): it names each of the test's strategies, as in @example(n=…), and runs in "),
        (example(n=1, m=2), "@example(n=1, m=2): it names each of the test's strategies, as in @example(n=…)"),
    ],
)
def test_an_example_that_fits_no_arguments_is_refused(wrong, says):
    """The message says what there is to name."""

    @wrong
    @quick
    @explore(n=st.integers(0, 5))
    async def test_it(claude_tokens, workers, n):
        await workers(hello)

    error = search(test_it).error
    assert isinstance(error, InvalidArgument)
    assert says in str(error)


def test_an_example_for_a_test_without_strategies_is_refused():
    """There is nothing to name."""

    @example(n=1)
    @quick
    @explore()
    async def test_it(claude_tokens, workers):
        await workers(hello)

    assert "@example(n=1): this test has no strategies; stock order is always tried" in str(search(test_it).error)


def test_an_example_that_is_expected_to_fail_may():
    """``.xfail()`` of an example is Hypothesis's word for it."""

    @example(n=77).xfail(raises=DoubleSpend)
    @settings(quick, max_examples=5)
    @explore(n=st.integers(0, 5))
    async def test_it(claude_tokens, workers, n):
        await workers((unsound if n == 77 else sound)(claude_tokens).token)

    assert search(test_it).error is None


def pasted(note):
    """The arguments of the decorator that a note names."""
    return eval(re.search(r"@reproduce_failure(\(.*?\))", note)[1])


def test_the_blob_that_a_failure_prints_reproduces_it():
    """``print_blob`` and ``@reproduce_failure``, as Hypothesis documents them."""

    def made(body, n=None):
        @settings(database=None, print_blob=True, max_examples=100)
        @explore(n=st.integers(0, 100))
        async def test_it(claude_tokens, workers, n):
            await workers((body if n > 60 else sound)(claude_tokens).token)

        return test_it

    result = search(made(unsound))
    (note,) = (note for note in result.notes if "reproduce_failure" in note)
    version, blob = pasted(note)
    again = search(hypothesis.reproduce_failure(version, blob)(made(unsound)))
    assert isinstance(again.error, DoubleSpend)
    assert "with n=61" in again.notes
    mended = search(hypothesis.reproduce_failure(version, blob)(made(sound)))
    assert isinstance(mended.error, DidNotReproduce)


def test_a_blob_is_enough_where_only_the_schedule_is_drawn():
    """It holds that one."""

    def made(body):
        @settings(database=None, print_blob=True, max_examples=100)
        @explore()
        async def test_it(claude_tokens, workers):
            await workers(body(claude_tokens).token)

        return test_it

    (note,) = search(made(unsound)).notes
    version, blob = pasted(note)
    assert isinstance(search(hypothesis.reproduce_failure(version, blob)(made(unsound))).error, DoubleSpend)
    assert isinstance(search(hypothesis.reproduce_failure(version, blob)(made(sound))).error, DidNotReproduce)


# Phases and checks.


def test_without_the_generate_phase_nothing_is_drawn_and_nothing_judged_by_races():
    """Explicit examples alone prove nothing, and aren't asked to."""
    seen = []

    @example(n=77)
    @settings(quick, phases=[Phase.explicit])
    @explore(n=st.integers(0, 5))
    async def test_it(claude_tokens, workers, n):
        seen.append(n)

    assert search(test_it).error is None
    assert seen == [77]


def test_without_the_shrink_phase_a_failure_is_as_it_was_found():
    """Its arguments are not made smaller."""

    @settings(quick, phases=[Phase.generate], max_examples=100)
    @explore(n=st.integers(0, 10**9))
    async def test_it(claude_tokens, workers, n):
        await workers((unsound if n > 600 else sound)(claude_tokens).token)

    result = search(test_it)
    assert isinstance(result.error, DoubleSpend)
    assert "with n=601" not in result.notes


def test_deadline_and_slowness_are_not_looked_at():
    """A deadline of a millisecond, and a strategy that takes its time."""

    @settings(quick, deadline=1, max_examples=15, suppress_health_check=[])
    @explore(n=st.integers(0, 5))
    async def test_it(claude_tokens, workers, n):
        sum(range(200_000))
        await workers(hello)

    assert search(test_it).error is None


def test_an_assumption_gives_a_schedule_up():
    """What was assumed away neither fails nor counts as looked at."""
    seen = []

    @settings(quick, max_examples=40)
    @explore(n=st.integers(0, 5))
    async def test_it(claude_tokens, workers, n):
        assume(n != 3)
        seen.append(n)
        await workers(sound(claude_tokens).token)

    result = search(test_it)
    assert result.error is None
    assert set(seen) == {0, 1, 2, 4, 5}
    assert result.report.schedules == len(seen) == 40


def test_an_assumption_that_never_holds_is_said():
    """Hypothesis's own complaint, not a pass."""

    @settings(quick, max_examples=10, suppress_health_check=[HealthCheck.filter_too_much])
    @explore(n=st.integers(0, 5))
    async def test_it(claude_tokens, workers, n):
        assume(False)

    assert isinstance(search(test_it).error, Unsatisfiable)


def test_of_hypothesis_health_checks_only_slowness_is_switched_off():
    """The others know something of the strategies."""

    @settings(quick, max_examples=1000)
    @explore(n=st.integers(0, 5))
    async def test_it(claude_tokens, workers, n):
        assume(False)

    assert isinstance(search(test_it).error, FailedHealthCheck)


def test_the_quick_gear_gives_up_where_nothing_can_be_drawn_any_more():
    """Few schedules pass the assumption: those that do are searched, and then it is enough."""
    seen = set()

    @settings(quick, max_examples=20, phases=[Phase.generate])
    @explore(n=st.integers(0, 3))
    async def test_it(claude_tokens, workers, n):
        assume(len(seen) < 3)
        seen.add(n)
        await workers(hello)

    result = search(test_it)
    assert result.error is None
    assert 3 <= result.report.schedules < 20


def test_of_several_bugs_the_headline_is_one_violation():
    """``report_multiple_bugs`` would hide it behind a group."""

    @settings(quick, report_multiple_bugs=True, max_examples=100)
    @explore(n=st.integers(0, 10))
    async def test_it(claude_tokens, workers, n):
        assert n != 7, "another bug"
        await workers((unsound if n > 5 else sound)(claude_tokens).token)

    assert isinstance(search(test_it).error, (DoubleSpend, AssertionError))
    assert not isinstance(search(test_it).error, BaseExceptionGroup)


def test_it_may_be_as_talkative_as_hypothesis_is():
    """``verbosity`` changes nothing of what is found."""

    @settings(quick, verbosity=Verbosity.debug, max_examples=5)
    @explore()
    async def test_it(claude_tokens, workers):
        await workers(unsound(claude_tokens).token)

    assert isinstance(search(test_it).error, DoubleSpend)


# Fuzzers.


def test_a_fuzzer_can_drive_the_property_by_itself():
    """Outside of any run of ours: bytes in, and what breaks comes out; as HypoFuzz does it."""

    @settings(quick)
    @explore(n=st.integers(0, 10))
    async def test_it(claude_tokens, workers, n):
        await workers((unsound if n > 5 else sound)(claude_tokens).token)

    assert test_it.is_hypothesis_test
    assert callable(test_it.hypothesis.inner_test)
    assert asyncio.iscoroutinefunction(test_it) is False
    source = __import__("random").Random(4)
    caught = 0
    for _ in range(20):
        try:
            test_it.hypothesis.fuzz_one_input(source.randbytes(500))
        except DoubleSpend:
            caught += 1
    assert 0 < caught < 20
    assert HealthCheck.too_slow  # the engine's own checks are none of a fuzzer's
