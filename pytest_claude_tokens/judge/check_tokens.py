"""Invariants of refresh tokens: each is presented once, also where the outcome is unknown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.violations import BlindReplay, DoubleSpend
from pytest_claude_tokens.judge.wording import by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["check_blind_replay", "check_double_spend"]


class _Tolerance:
    """How the policy treats a refresh token that is presented again."""

    def __init__(self, history: History) -> None:
        policy = history.policy
        self.rotates: bool = policy.get("rotate", True)
        self.has_grace: bool = bool(policy.get("grace_seconds")) and policy.get("grace_count") != 0
        self._commits: dict[int | None, Event] = {note.op: note for note in history.noted("commit")}

    def refused(self, op: Operation) -> int | None:
        """The ``seq`` of the event that refused it as dead; ``None`` if the service did not."""
        if (note := self._commits.get(op.op)) is not None:
            return note.seq if note.get("outcome") in ("refused", "reused") else None
        # A file that we did not write may lack such notes; then a 4xx without another known cause counts as a refusal.
        end = op.end
        if end is None or end.type != "fail" or op.committed or op.fault or end.status == 429:
            return None
        return end.seq if (end.status or 500) < 500 else None

    def reason(self, *ops: Operation) -> str:
        """Why the policy makes it harmless that these operations presented the same token; ``""`` if it does not."""
        if not self.rotates:
            return "harmless, as the policy does not rotate"
        if any(note is not None and note.get("outcome") == "retry" for note in map(self._commits.get, _numbers(ops))):
            return "harmless, as the policy has one of two at once try again"
        if self.has_grace and all(self.refused(op) is None for op in ops):
            return "harmless, as the policy has a grace window"
        return ""

    def completed(self, second: Operation, *ops: Operation) -> int:
        """The ``seq`` of the event at which the violation is certain."""
        if not self.has_grace:
            return second.opened
        return max(second.opened, min(seq for op in ops if (seq := self.refused(op)) is not None))


def _numbers(ops: tuple[Operation, ...]) -> list[int | None]:
    return [op.op for op in ops]


def check_double_spend(history: History) -> Iterator[DoubleSpend]:
    """No refresh token is sent while a request with it is open, or after one has succeeded.

    A violation shows the token's first pair of requests. It is excused if the policy makes all its pairs harmless.
    """
    tolerance: _Tolerance | None = None
    for sent in history.presentations.values():
        if len(sent) == 1:
            continue
        tolerance = tolerance or _Tolerance(history)
        wrong: list[tuple[int, Operation, Operation]] = []
        harmless: list[tuple[int, Operation, Operation]] = []
        earlier: list[Operation] = []
        for second in sent:
            earlier = [op for op in earlier if op.outcome == "ok" or op.open_at(second.opened)]
            pair = next((first for first in earlier if not tolerance.reason(first, second)), None)
            if pair is not None:
                wrong.append((tolerance.completed(second, pair, second), pair, second))
            elif earlier:
                harmless.append((second.opened, earlier[0], second))
            if tolerance.rotates or not earlier:  # without rotation all later requests collide with the first one
                earlier.append(second)
        if wrong or harmless:
            yield _double_spend(history, wrong or harmless, "" if wrong else tolerance.reason(*harmless[0][1:]))


def _double_spend(history: History, pairs: list[tuple[int, Operation, Operation]], excuse: str) -> DoubleSpend:
    seq, first, second = min(pairs, key=lambda pair: pair[0])
    label = history.label(first.grant, first.refresh)
    whose = "its own" if first.actor == second.actor else f"{first.actor}'s"
    if first.open_at(second.opened):
        cause = f"overlap: {second.actor} sent {label} while {whose} request #{first.opened} with it was open"
    else:
        cause = f"reuse: {second.actor} sent {label} after {whose} request #{first.opened} with it had succeeded"
    return DoubleSpend(
        by(label, [(op.actor, f"#{op.opened}") for op in (first, second)]),
        seq=seq,
        operations=(first, second),
        labels=(label,),
        grant=first.grant,
        cause=cause,
        more=len(pairs) - 1,
        excuse=excuse,
    )


def check_blind_replay(history: History) -> Iterator[BlindReplay]:
    """After a token request whose outcome is unknown, its refresh token is not presented again.

    Unknown to the client is also what an error hides that took the place of a success, as where a service has spent the
    token and fails in its next step.
    If a request with it has succeeded meanwhile, that is a double spend instead.
    """
    for sent in history.presentations.values():
        unknown = [op for op in sent if op.outcome == "info" or op.replaced]
        if not unknown:
            continue
        tolerance = _Tolerance(history)
        success = min((op.closed for op in sent if op.closed and op.outcome == "ok"), default=math.inf)
        wrong: list[tuple[int, Operation, Operation]] = []
        harmless: list[tuple[int, Operation, Operation]] = []
        for second in sent:
            lost = next((op for op in unknown if op.closed and op.closed < second.opened), None)
            if lost is None or success < second.opened:
                continue
            if tolerance.reason(second):
                harmless.append((second.opened, lost, second))
            else:
                wrong.append((tolerance.completed(second, second), lost, second))
        if wrong or harmless:
            yield _blind_replay(history, wrong or harmless, "" if wrong else tolerance.reason(harmless[0][2]))


def _blind_replay(history: History, pairs: list[tuple[int, Operation, Operation]], excuse: str) -> BlindReplay:
    seq, lost, second = min(pairs, key=lambda pair: pair[0])
    label = history.label(lost.grant, lost.refresh)
    how = f"{lost.status} after the commit" if lost.replaced else (lost.end.error if lost.end else None) or "no reply"
    what = f"{lost.status} once committed" if lost.replaced else "unknown outcome"
    return BlindReplay(
        by(label, [(lost.actor, f"#{lost.opened}, {what}"), (second.actor, f"#{second.opened}")]),
        seq=seq,
        operations=(lost, second),
        labels=(label,),
        grant=lost.grant,
        cause=f"replay after an unknown outcome: whether #{lost.opened} had spent {label} could not be known ({how})",
        more=len(pairs) - 1,
        excuse=excuse,
    )
