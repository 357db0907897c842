"""The explicit examples of a test (``@example``): each runs in default order, before anything is drawn."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis.errors import DidNotReproduce, InvalidArgument

from pytest_claude_tokens.simulation.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_claude_tokens.search.hypothesis_engine import ExplicitExample

__all__ = ["Examples"]


class Examples:
    """The explicit examples of one test; ``names`` are its strategies, in the order of the body's arguments.

    Raises ``InvalidArgument`` for an example that doesn't give a value for each name.
    """

    def __init__(self, written: Sequence[ExplicitExample], names: Sequence[str]) -> None:
        self._named = [_named(example, names) for example in written]
        self._schedules = [Schedule() for _ in written]  # equal but distinct: `number` compares by identity

    def number(self, schedule: Schedule) -> int:
        """The number, from 1, of the example whose schedule is this very object; 0 for a schedule that was drawn."""
        return next((n for n, own in enumerate(self._schedules, 1) if own is schedule), 0)

    def arguments(self, number: int) -> dict[str, Any]:
        """Copies of the example's arguments, as the body may mutate those that it gets; none for number 0.

        Raises ``DidNotReproduce`` where there is no such example.
        """
        if number > len(self._named):
            raise DidNotReproduce(f"there is no @example number {number} any more")
        return _copied(self._named[number - 1].kwargs) if number else {}

    def scheduled(self) -> list[tuple[Schedule, ExplicitExample]]:
        """Each example with its schedule and copies of its arguments, for Hypothesis to run."""
        return [
            (schedule, replace(example, kwargs=_copied(example.kwargs)))
            for schedule, example in zip(self._schedules, self._named, strict=True)
        ]


def _named(example: ExplicitExample, names: Sequence[str]) -> ExplicitExample:
    """The example with its positional values named. As in Hypothesis, they are for the last of the arguments."""
    given = dict(example.kwargs)
    if example.args and len(example.args) <= len(names):
        given = dict(zip(names[-len(example.args) :], example.args, strict=True))
    if set(given) != set(names):
        words = [*map(repr, example.args), *(f"{name}={value!r}" for name, value in example.kwargs.items())]
        wanted = ", ".join(f"{name}=…" for name in names)
        raise InvalidArgument(
            f"@example({', '.join(words)}): it names each of the test's strategies, as in @example({wanted}), and "
            f"runs in default order"
            if names
            else f"@example({', '.join(words)}): this test has no strategies; default order is always tried"
        )
    return replace(example, args=(), kwargs=given)


def _copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    copies = {}
    for name, value in arguments.items():
        try:
            copies[name] = deepcopy(value)
        except Exception:
            copies[name] = value
    return copies
