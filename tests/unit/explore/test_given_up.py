"""A schedule that the test's own assumption gives up is no failure, however the schedule was chosen.

``assume`` itself warns where no engine of Hypothesis runs, as here: this is what it raises.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis.errors import UnsatisfiedAssumption

from pytest_claude_tokens import explore
from tests.unit.explore.common import hello, search, unsound

quick = settings(database=None, derandomize=True, max_examples=20)


def test_a_systematic_search_goes_on_after_a_schedule_that_was_given_up():
    """It is not counted, and what can come after it is still tried."""
    runs = []

    @explore(exhaustive=1)
    async def test_it(claude_tokens, workers):
        runs.append(1)
        await workers(hello)
        if len(runs) == 1:
            raise UnsatisfiedAssumption

    result = search(test_it)
    assert result.error is None
    assert result.report.schedules == len(runs) - 1 - 2  # two more compare default order with itself
    assert result.report.schedules > 1


def test_a_replay_that_is_given_up_passes():
    """The token's schedule has come to an assumption that was added since."""

    def made(holds):
        @quick
        @explore()
        async def test_it(claude_tokens, workers):
            if not holds:
                raise UnsatisfiedAssumption
            await workers(unsound(claude_tokens).token)

        return test_it

    token = search(made(True)).found.token
    result = search(made(False), replay=token)
    assert result.error is None
    assert result.report.schedules == 0
