"""What is raised: names, headlines, data, and a way through a pickle."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from pytest_claude_tokens import violations
from pytest_claude_tokens.judge.judging import CHECKERS, judge
from pytest_claude_tokens.judge.violations import DEFAULT, INVARIANTS, STORE_INVARIANTS, VIOLATIONS, Violation
from pytest_claude_tokens.judge.wording import HEADLINE_LENGTH
from tests.unit.judge.build import history

ALL = [
    getattr(violations, name)
    for name in violations.__all__
    if isinstance(getattr(violations, name), type) and name != "Violation"
]


def spent_twice() -> Violation:
    return judge(history("login\na: w0 token rt#1\nb: w1 token rt#1\na ok at#2 rt#2\nb fail 400")).violations[0]


def test_the_names_come_in_the_order_of_the_table():
    """Ties are broken by this order, so it is a promise."""
    assert INVARIANTS == (
        "double-spend",
        "blind-replay",
        "co-schedule",
        "lost-rotation",
        "forced-login",
        "stale-bearer",
        "refresh-storm",
        "missing-bearer",
        "starvation",
        "store-regression",
        "token-leak",
    )
    assert tuple(VIOLATIONS) == tuple(CHECKERS) == INVARIANTS


def test_all_but_the_store_invariants_fail_a_test_by_default():
    """The two need a store to be known."""
    assert frozenset(INVARIANTS) - DEFAULT == STORE_INVARIANTS == {"lost-rotation", "store-regression"}


@pytest.mark.parametrize("cls", ALL)
def test_each_is_an_assertion_error_of_the_public_module(cls):
    """pytest prints the module's name in front of the class."""
    assert issubclass(cls, AssertionError)
    assert (cls.__module__, cls.__qualname__) == ("claude_tokens", cls.__name__)


@pytest.mark.parametrize("cls", ALL)
def test_each_survives_a_pickle_and_a_copy(cls):
    """pytest-xdist sends them from one process to another; what was attached later goes along."""
    error = cls("rt#1 is gone", seq=4) if issubclass(cls, Violation) else cls("2 workers, nothing raced")
    error.add_note("a note")

    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is cls
        assert str(twin) == str(error)
        assert twin.__dict__ == error.__dict__
        assert twin.__notes__ == ["a note"]


def test_a_violation_carries_its_data_through_a_pickle():
    """The report needs the operations on the other side."""
    error = spent_twice()
    error.others = (spent_twice(),)

    twin = pickle.loads(pickle.dumps(error))

    assert twin.operations == error.operations
    assert (twin.seq, twin.labels, twin.actors, twin.cause) == (3, ("rt#1",), ("w0", "w1"), error.cause)
    assert str(twin.others[0]) == str(error.others[0])


def test_pytest_would_print_class_and_headline_on_one_line():
    """The summary line has room for no more."""
    error = spent_twice()

    assert traceback.format_exception_only(error) == ["claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)\n"]
    assert error.headline == "rt#1 by w0 (#2) and w1 (#3)"


def test_a_headline_is_one_line_of_at_most_60_characters():
    """Whatever a starved worker says of itself."""
    error = Violation("waits\nfor " + "x" * 100, seq=1)

    assert len(str(error)) == HEADLINE_LENGTH == 60
    assert str(error).startswith("waits for x")
    assert str(error).endswith("...")
