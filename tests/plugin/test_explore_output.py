"""What a body prints, logs and raises, in the report of a test that ran it hundreds of times."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pytest_claude_tokens.plugin.exploring import _refuses_a_traceback

LOUD = """
import dataclasses, itertools, logging, sys
runs = itertools.count(1)

@dataclasses.dataclass(frozen=True)
class Refused(Exception):
    why: str

def body(*more):
    async def test(claude_tokens, workers):
        run = next(runs)
        login = Login(claude_tokens.account(expired=True), *more)
        async def job():
            logging.getLogger("pool").warning("logged in run %d", run)
            print("printed in run", run)
            print("complained in run", run, file=sys.stderr)
            await login.token()
        await workers(job)
    return explore()(test)

two = settings(few, max_examples=2)
test_failing = two(body(False))
test_passing = two(body())
test_talking = settings(two, verbosity=hypothesis.Verbosity.verbose)(body())

@two
@explore()
async def test_frozen(claude_tokens, workers):
    async def job():
        await Login(claude_tokens.account(expired=True)).token()
        raise Refused("by the body")
    await workers(job)

def test_frozen_in_a_plain_test(claude_tokens):
    raise Refused("by the body")

def test_another_error_in_its_place():
    raise KeyError("by the body")
"""


def test_it_is_that_of_the_run_that_is_told(explored):
    """The last one, which repeats the failing schedule; all of it, where Hypothesis was asked to talk in between.

    An exception that refuses to be assigned to is told as it is: pytest's own context managers try. Where it is the
    verdict, its worker is named.
    """
    result = explored(LOUD, "-rP", "--show-capture=all")
    result.assert_outcomes(passed=2, failed=4)
    shown = str(result.stdout)

    failed, passed = shown.split("= PASSES =")
    for text in (failed, passed.partition("test_talking")[0]):
        for word in ("logged", "printed", "complained"):
            lines = [line.partition(word)[2] for line in text.splitlines() if f"{word} in run" in line]
            assert (len(lines), len(set(lines))) == (2, 1), "two workers, one run"
    assert passed.partition("test_talking")[2].count("printed in run") > 2

    assert "FrozenInstanceError" not in shown
    assert shown.count("E       test_it.Refused: by the body") == 2
    assert "\nverdict w0 raised test_it.Refused: by the body\n" in shown
    assert "E       KeyError: 'by the body'" in shown


@dataclass(frozen=True)
class Frozen(Exception):
    why: str


@pytest.mark.parametrize(("error", "refuses"), [(Frozen("by the body"), True), (KeyError("by the body"), False)])
def test_only_an_error_that_cannot_be_assigned_to_takes_the_place_of_a_later_one(error, refuses):
    """Of any other, what came after it is told, as always."""
    assert _refuses_a_traceback(error) is refuses
