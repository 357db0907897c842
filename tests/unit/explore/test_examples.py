"""Explicit examples, and failures that are told by a blob."""

from __future__ import annotations

import re

import hypothesis
import pytest
from hypothesis import example, settings
from hypothesis import strategies as st
from hypothesis.errors import DidNotReproduce, InvalidArgument

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import hello, quick, search, sound, unsound


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
    assert result.found.schedule.text() == "default order"
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

    assert "@example(n=1): this test has no strategies; default order is always tried" in str(search(test_it).error)


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
