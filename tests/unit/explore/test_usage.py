"""What ``explore`` refuses, in one sentence that says what to write instead."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_server import Fault
from pytest_claude_tokens import explore


async def task_body(claude_tokens, workers, n=None):
    """A body of tasks."""


def thread_body(claude_tokens, workers, n=None):
    """A body of threads, or of processes."""


DRAWN: list[dict[str, Any]] = [
    {"n": st.integers()},
    {"faults": []},
    {"faults": [Fault.RESET]},
    {"kills": True},
    {"cancel": True},
    {"processes": True},
]
"""Options by which something is drawn."""


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"workers": task_body}, TypeError, "write @explore(), or @explore(workers=4): it takes keywords only"),
        ({"workers": 0}, ValueError, "explore(workers=0): must be a number of workers, 1 or more"),
        ({"workers": True}, ValueError, "explore(workers=True): must be a number of workers, 1 or more"),
        ({"workers": 2.0}, ValueError, "explore(workers=2.0): must be a number of workers, 1 or more"),
        ({"exhaustive": -1}, ValueError, "explore(exhaustive=-1): must be a number of deviations, 0 or more"),
        ({"exhaustive": True}, ValueError, "explore(exhaustive=True): must be a number of deviations, 0 or more"),
        ({"n": 5}, TypeError, "explore(n=5): a further keyword is an argument's strategy, such as n=st.just(5)"),
        ({"schedules": 500}, TypeError, "explore(schedules=500): how many schedules are run is said by @settings("),
        ({"seed": 7}, TypeError, "explore(seed=7): a search is repeated by pytest --claude-tokens-seed=…, or by @se"),
        ({"worker": 3}, TypeError, "explore(worker=3): did you mean workers? A further keyword is an argument's"),
        ({"kills": [9]}, TypeError, "explore(kills=[…]) names signals: it needs processes=True; elsewhere it is kills"),
        *(
            (
                {"exhaustive": 1, **more},
                TypeError,
                "explore(exhaustive=…) is systematic: it takes no strategies, faults",
            )
            for more in DRAWN
        ),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options, error, says):
    """Before any function is decorated."""
    with pytest.raises(error) as refused:
        explore(**options)
    assert str(refused.value).startswith(says)


@pytest.mark.parametrize(
    ("options", "body", "says"),
    [
        ({"cancel": True}, thread_body, "explore(cancel=True) cancels tasks: it needs an async def"),
        ({"processes": True}, task_body, "explore(processes=True) needs a def: its workers are commands"),
        ({"m": st.integers()}, task_body, "task_body() has no argument m, for which there is a strategy"),
        ({"claude_tokens": st.integers()}, task_body, "claude_tokens is what explore() gives: it takes no strategy"),
        ({"faults": ["reset"]}, task_body, "explore(faults=['reset']): a fault is a value, such as Fault.RESET"),
        (
            {},
            given(n=st.integers())(thread_body),
            "explore() stands in for @given: give it the strategies, as in @explore(n=st.integers())",
        ),
    ],
)
def test_options_that_do_not_fit_the_body_are_refused_where_it_is_decorated(options, body, says):
    """So a module with such a test can't be collected, and says why."""
    with pytest.raises(TypeError) as refused:
        explore(**options)(body)
    assert str(refused.value) == says


@pytest.mark.parametrize("wrong", [task_body, thread_body, 4])
def test_a_bare_decorator_is_refused(wrong):
    """``@explore`` without parentheses would take the body for an option."""
    with pytest.raises(TypeError) as refused:
        explore(wrong)
    assert str(refused.value) == "write @explore(), or @explore(workers=4): it takes keywords only"
