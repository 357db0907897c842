"""Invariants of refresh tokens: each is presented once, also where the outcome is unknown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.violations import BlindReplay, DoubleSpend
from pytest_claude_tokens.judge.wording import by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["check_blind_replay", "check_double_spend"]


class _Tolerance:
    """How the policy treats a refresh token that is presented again."""

    def __init__(self, history: History) -> None:
        policy = history.policy
        self.rotates: bool = policy.get("rotate", True)
        self.has_grace: bool = bool(policy.get("grace_seconds")) and policy.get("grace_count") != 0
        self._commits = {note.op: note for note in history.noted("commit")}

    def refused(self, op: Operation) -> int | None:
        """The ``seq`` of the event that refused it as dead; ``None`` if the service did not."""
        if (note := self._commits.get(op.op)) is not None:
            return note.seq if note.get("outcome") in ("refused", "reused") else None
        # A file that we did not write may lack such notes; then a 4xx without another known cause counts as a refusal.
        end = op.end
        if end is None or end.type != "fail" or op.committed or op.fault or end.status == 429:
            return None
        return end.seq if (end.status or 500) < 500 else None

    @property
    def reason(self) -> str:
        """Why the policy makes reuse harmless."""
        return f"harmless, as the policy {'has a grace window' if self.rotates else 'does not rotate'}"

    def harmless(self, *ops: Operation) -> bool:
        """Whether it is harmless that these operations presented the same token."""
        return not self.rotates or (self.has_grace and all(self.refused(op) is None for op in ops))

    def completed(self, second: Operation, *ops: Operation) -> int:
        """The ``seq`` of the event at which the violation is certain."""
        if not self.has_grace:
            return second.opened
        return max(second.opened, min(seq for op in ops if (seq := self.refused(op)) is not None))


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
            pair = next((first for first in earlier if not tolerance.harmless(first, second)), None)
            if pair is not None:
                wrong.append((tolerance.completed(second, pair, second), pair, second))
            elif earlier:
                harmless.append((second.opened, earlier[0], second))
            if tolerance.rotates or not earlier:  # without rotation all later requests collide with the first one
                earlier.append(second)
        if wrong or harmless:
            yield _double_spend(history, wrong or harmless, "" if wrong else tolerance.reason)


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

    If a request with it has succeeded meanwhile, that is a double spend instead.
    """
    for sent in history.presentations.values():
        unknown = [op for op in sent if op.outcome == "info"]
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
            if tolerance.harmless(second):
                harmless.append((second.opened, lost, second))
            else:
                wrong.append((tolerance.completed(second, second), lost, second))
        if wrong or harmless:
            yield _blind_replay(history, wrong or harmless, "" if wrong else tolerance.reason)


def _blind_replay(history: History, pairs: list[tuple[int, Operation, Operation]], excuse: str) -> BlindReplay:
    seq, lost, second = min(pairs, key=lambda pair: pair[0])
    label = history.label(lost.grant, lost.refresh)
    how = (lost.end.error if lost.end else None) or "no reply"
    return BlindReplay(
        by(label, [(lost.actor, f"#{lost.opened}, unknown outcome"), (second.actor, f"#{second.opened}")]),
        seq=seq,
        operations=(lost, second),
        labels=(label,),
        grant=lost.grant,
        cause=f"replay after an unknown outcome: whether #{lost.opened} had spent {label} could not be known ({how})",
        more=len(pairs) - 1,
        excuse=excuse,
    )
