"""Context managers that leave the exception alone which passes through them."""

from __future__ import annotations

import dataclasses

import pytest

from fake_server.around import around


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """It refuses every assignment."""

    why: str


STEPS: list[str] = []


@around
def noting(name, *, swallowing=(), raising=None):
    """Notes how its block ended."""
    STEPS.append(name)
    try:
        yield name.upper()
    except swallowing:
        STEPS.append("swallowed")
    finally:
        STEPS.append("over")
        if raising is not None:
            raise raising


@pytest.fixture(autouse=True)
def fresh():
    """No steps yet."""
    STEPS.clear()


def test_block_that_passes():
    """It is given what was yielded, and the rest runs after it."""
    with noting("one") as given:
        assert (given, STEPS) == ("ONE", ["one"])
    assert STEPS == ["one", "over"]
    assert noting.__doc__ == "Notes how its block ended."


@pytest.mark.parametrize("error", [Frozen("no"), ValueError("no"), StopIteration(), KeyboardInterrupt()], ids=repr)
def test_error_passes_through_as_it_is(error):
    """The same object, also one that can't be assigned to, and one that a generator can't raise itself."""
    with pytest.raises(type(error)) as caught, noting("one"):
        raise error
    assert caught.value is error
    assert STEPS == ["one", "over"]


def test_error_may_be_swallowed_or_replaced():
    """As with those of contextlib."""
    with noting("one", swallowing=Frozen):
        raise Frozen("no")
    assert STEPS == ["one", "swallowed", "over"]
    with pytest.raises(LookupError) as caught, noting("two", raising=LookupError("mine")):
        raise Frozen("no")
    assert isinstance(caught.value.__context__, Frozen)
