"""The verdict on a history: VALID, INVALID or UNKNOWN, with its violations and notes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pytest_claude_tokens.judge.violations import Violation

__all__ = ["Note", "State", "Verdict", "Why"]

Why = Literal["allowed", "excused", "unjudged", "elsewhere", "torn", "stuck", "crashed", "unserved", "unearned"]


class State(StrEnum):
    """The three verdicts. UNKNOWN: no violation was found, but the history can't be called valid."""

    VALID = "VALID"
    INVALID = "INVALID"
    UNKNOWN = "UNKNOWN"


_REASONS: frozenset[Why] = frozenset(("torn", "stuck", "crashed", "unserved", "unearned"))
"""Kinds of notes for which a history without a violation can't be called valid."""

_EXIT = {State.VALID: 0, State.INVALID: 1, State.UNKNOWN: 3}


@dataclass(frozen=True, slots=True)
class Note:
    """A remark that does not fail the test.

    ``why``: it was ``allowed`` by the test; ``excused``, as the policy makes it harmless or we caused it ourselves;
    ``unjudged``, as this history's header does not request it; a bearer was presented ``elsewhere``, where the service
    has no endpoint; or a reason for UNKNOWN: the history is ``torn``, a worker is ``stuck`` outside the simulation, a
    checker ``crashed``, a refresh token was sent where it is ``unserved``, VALID would be ``unearned``.
    """

    why: Why
    text: str
    violation: Violation | None = None

    @property
    def is_reason(self) -> bool:
        """Whether it is a reason for UNKNOWN."""
        return self.why in _REASONS

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict. ``violations`` are in the order of reports: the first one is raised."""

    state: State
    violations: tuple[Violation, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def reasons(self) -> tuple[Note, ...]:
        """The notes that keep the history from being called valid."""
        return tuple(note for note in self.notes if note.is_reason)

    @property
    def exit_status(self) -> int:
        """0 valid, 1 violated, 3 unknown."""
        return _EXIT[self.state]
