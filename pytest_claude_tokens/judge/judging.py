"""The judge: a pure function from a :class:`~pytest_claude_tokens.judge.history.History` to its verdict.

There is one checker for each invariant. It yields all violations, even excused ones
(``excuse`` of :class:`~pytest_claude_tokens.judge.violations.Violation`); only :func:`judge` decides which count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.check_calls import check_co_schedule, check_stale_bearer
from pytest_claude_tokens.judge.check_liveness import check_starvation, check_token_leak
from pytest_claude_tokens.judge.check_missing_bearer import check_missing_bearer
from pytest_claude_tokens.judge.check_stores import check_forced_login, check_lost_rotation, check_store_regression
from pytest_claude_tokens.judge.check_storm import check_refresh_storm
from pytest_claude_tokens.judge.check_tokens import check_blind_replay, check_double_spend
from pytest_claude_tokens.judge.unserved import notes_on_places
from pytest_claude_tokens.judge.verdict import Note, State, Verdict
from pytest_claude_tokens.judge.violations import DEFAULT, STORE_INVARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_claude_tokens.judge.history import History
    from pytest_claude_tokens.judge.violations import Violation

__all__ = [
    "CHECKERS",
    "Note",
    "State",
    "Verdict",
    "check_blind_replay",
    "check_co_schedule",
    "check_double_spend",
    "check_forced_login",
    "check_lost_rotation",
    "check_missing_bearer",
    "check_refresh_storm",
    "check_stale_bearer",
    "check_starvation",
    "check_store_regression",
    "check_token_leak",
    "judge",
]

CHECKERS: Mapping[str, Callable[[History], Iterable[Violation]]] = {
    "double-spend": check_double_spend,
    "blind-replay": check_blind_replay,
    "co-schedule": check_co_schedule,
    "lost-rotation": check_lost_rotation,
    "forced-login": check_forced_login,
    "stale-bearer": check_stale_bearer,
    "refresh-storm": check_refresh_storm,
    "missing-bearer": check_missing_bearer,
    "starvation": check_starvation,
    "store-regression": check_store_regression,
    "token-leak": check_token_leak,
}
"""The checker of each invariant, in the order of :data:`~pytest_claude_tokens.judge.violations.INVARIANTS`."""


def judge(history: History, *, allow: Iterable[str] | None = None, limit: int | None = None) -> Verdict:
    """The verdict on ``history``. Never raises: an exception in a checker makes the verdict UNKNOWN.

    ``allow`` (names of invariants that are only noted) and ``limit`` (workers with a call open on one bearer) default
    to those of the header.
    """
    notes: list[Note] = []
    try:
        allowed, judged = _asked_for(history, allow)
    except Exception as error:  # noqa: BLE001 - as below
        notes.append(Note("crashed", f"the header can't be read: {type(error).__name__}: {error}"))
        allowed, judged = frozenset(), frozenset(CHECKERS)
    notes += [Note("torn", text) for text in history.notes]
    notes += [Note("stuck", f"{event.actor} is stuck: {event.get('why')}") for event in history.noted("stuck")]
    notes += notes_on_places(history)
    found: list[Violation] = []
    for name, check in CHECKERS.items():
        try:
            yielded = list(check_co_schedule(history, limit) if name == "co-schedule" else check(history))
        except Exception as error:  # noqa: BLE001 - a checker that crashes has found no violation
            notes.append(Note("crashed", f"{name} could not be judged: {type(error).__name__}: {error}"))
            continue
        for violation in yielded:
            text = f"{name}: {violation}"
            if violation.excuse:
                notes.append(Note("excused", f"{text}: {violation.excuse}", violation))
            elif name in allowed:
                notes.append(Note("allowed", f"{text}: allowed", violation))
            elif name not in judged:
                notes.append(Note("unjudged", f"{text}: not judged here", violation))
            else:
                found.append(violation)
    if found:
        _rank(found)
        found[0].others = tuple(found[1:])
        return Verdict(State.INVALID, tuple(found), tuple(notes))
    unknown = any(note.is_reason for note in notes)
    return Verdict(State.UNKNOWN if unknown else State.VALID, (), tuple(notes))


def _rank(found: list[Violation]) -> None:
    """Sort the violations as they are raised: the first that was complete, but what comes with a double spend after it.

    A needless refresh of the same login is of the same making, and a leak has nothing to do with the order of requests.
    """
    spent = [violation for violation in found if violation.invariant == "double-spend"]

    def key(violation: Violation) -> tuple[bool, int, int]:
        worse = [
            one.order
            for one in spent
            if violation.invariant == "token-leak"
            or (violation.invariant == "refresh-storm" and violation.grant == one.grant)
        ]
        return max([violation.order, *((at_end, seq, violation.order[2]) for at_end, seq, _ in worse)])

    found.sort(key=key)


def _asked_for(history: History, allow: Iterable[str] | None) -> tuple[frozenset[str], frozenset[str]]:
    """The invariants that are only noted, and those that fail a test."""
    header = history.header
    allowed = header.get("allow") or () if allow is None else allow
    default = header.get("default")
    judged = DEFAULT if default is None else frozenset(default)
    return frozenset(allowed), judged | STORE_INVARIANTS if history.noted("store") else judged
