"""Hypothesis's phases, health checks and assumptions under a search; and fuzzers that drive it."""

from __future__ import annotations

import inspect
from unittest import SkipTest

from hypothesis import HealthCheck, Phase, Verbosity, assume, example, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.errors import FailedHealthCheck, Unsatisfiable

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import hello, quick, search, sound, unsound


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
    assert inspect.iscoroutinefunction(test_it) is False
    source = __import__("random").Random(4)
    caught = 0
    for _ in range(20):
        try:
            test_it.hypothesis.fuzz_one_input(source.randbytes(500))
        except DoubleSpend:
            caught += 1
    assert 0 < caught < 20
    assert HealthCheck.too_slow  # the engine's own checks are none of a fuzzer's


def test_a_search_that_only_remembers_says_so_where_there_is_nothing():
    """As Hypothesis does."""
    test = explore()(hello_from_all)
    nothing = settings(quick, phases=[Phase.reuse], database=InMemoryExampleDatabase())(test)
    assert isinstance(search(nothing).error, SkipTest)


async def hello_from_all(claude_tokens, workers):
    await workers(hello)
