"""Exceptions of the user's that refuse what others allow: they reach him as they are."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from pytest_claude_tokens import ClaudeTokens, explore
from tests.unit.explore.common import hello, search

quick = settings(database=None, derandomize=True, max_examples=10)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses every assignment: of notes, of a traceback, of an attribute of ours."""

    why: str


class Mute(Exception):
    """Can't tell its message."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


async def frozen():
    """A worker that dies of one."""
    await hello()
    raise Frozen("no")


async def mute():
    """A worker that dies of the other."""
    await hello()
    raise Mute


@pytest.mark.parametrize("given", [{}, {"n": st.integers(0, 3)}], ids=["schedule alone", "with an argument"])
def test_frozen_one_stays_itself(given):
    """In both gears; what the other worker died of is told beside it all the same."""

    async def test_it(claude_tokens, workers, **arguments):
        await workers(frozen, mute)

    async def test_with_argument(claude_tokens, workers, n):
        await workers(frozen, mute)

    error = search(quick(explore(workers=2, **given)(test_with_argument if given else test_it))).error
    assert error == Frozen("no")
    assert error.__notes__[0] == "w1 raised Mute: <its message can't be told: RuntimeError>"
    assert error.claude_tokens_found.replayed == (3, 3)


def test_frozen_one_stays_itself_in_the_blocks_of_a_handle():
    """Each of them is left by the user's own errors."""
    with pytest.raises(Frozen), ClaudeTokens() as tokens:
        for block in (tokens.worker("w0"), tokens.environ(), tokens.hold("token", count=1)):
            with pytest.raises(Frozen) as caught, block:
                raise Frozen("no")
            assert caught.value.why == "no"
        raise Frozen("no")
