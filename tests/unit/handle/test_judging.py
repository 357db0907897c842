from __future__ import annotations

import bdb
import sys
import unittest

import hypothesis
import pytest
from hypothesis.errors import StopTest, UnsatisfiedAssumption

from pytest_claude_tokens.handle.judgement import replaceable
from pytest_claude_tokens.violations import DoubleSpend


class Mine(ValueError):
    pass


@pytest.mark.parametrize(
    "error", [AssertionError(), OSError(), Mine(), ExceptionGroup("g", [OSError()]), StopIteration(), RuntimeError()]
)
def test_errors_of_the_body_may_be_replaced(error):
    """Whatever a losing worker dies of."""
    assert replaceable(error)


@pytest.mark.parametrize(
    "error",
    [
        unittest.SkipTest("skip"),
        pytest.skip.Exception("skip"),
        pytest.xfail.Exception("xfail"),
        pytest.fail.Exception("fail"),
        pytest.exit.Exception("exit"),
        UnsatisfiedAssumption(),
        StopTest(0),
        hypothesis.errors.Frozen(),
        bdb.BdbQuit(),
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
        BaseExceptionGroup("g", [KeyboardInterrupt()]),
        DoubleSpend("rt#1", seq=1),
    ],
)
def test_what_steers_a_run_is_never_replaced(error):
    """Skips, expected failures, assumptions, stops, interruptions, and a violation that was raised before."""
    assert not replaceable(error)


def test_a_skip_needs_unittest_to_be_known(monkeypatch):
    """Nobody can have raised what nobody has imported."""
    monkeypatch.delitem(sys.modules, "unittest.case")

    assert replaceable(OSError())
