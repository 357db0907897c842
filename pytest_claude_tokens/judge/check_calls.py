"""Invariants of bearers: at most ``limit`` workers use one at a time, and none presents it after it was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_claude_tokens.judge.overlaps import overlaps
from pytest_claude_tokens.judge.violations import CoSchedule, StaleBearer
from pytest_claude_tokens.judge.wording import by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_claude_tokens.judge.history import History, Operation

__all__ = ["check_co_schedule", "check_stale_bearer"]


def check_co_schedule(history: History, limit: int | None = None) -> Iterator[CoSchedule]:
    """At most ``limit`` workers have a call open on one bearer (on one account under the policy's ``key="account"``).

    Without a limit, under a policy that serializes no calls, nothing is judged (``None`` in the header). There is one
    violation for each overlap: a period in which a call on the bearer was always open.
    """
    allowed = history.header.get("limit", 1) if limit is None else limit
    if allowed is None:
        return
    for calls in overlaps(history):
        found, more = _over_the_limit(calls, allowed)
        if found:
            yield _co_schedule(history, found, more)


def _over_the_limit(calls: list[Operation], allowed: int) -> tuple[list[Operation], int]:
    """The calls of one overlap that were open when the limit was first exceeded, and how often it was again."""
    found: list[Operation] = []
    more = 0
    under_way: list[Operation] = []
    for call in calls:  # no properties, for speed: this loop runs for every overlap of every explored history
        seq = call.invoke.seq
        under_way = [op for op in under_way if op.end is None or op.end.seq > seq]
        # The oldest call of each worker: further calls of the same worker don't count.
        oldest = {op.invoke.actor: op for op in reversed(under_way)}
        under_way.append(call)
        if len(oldest) >= allowed and call.invoke.actor not in oldest:
            more += bool(found)
            found = found or [*sorted(oldest.values(), key=lambda op: op.opened), call]
    return found, more


def _co_schedule(history: History, found: list[Operation], more: int) -> CoSchedule:
    *before, last = found
    labels = tuple(dict.fromkeys(history.label(op.invoke.grant, op.bearer) for op in found))
    bearers = {(op.invoke.grant, op.bearer) for op in found}
    what = labels[0] if len(bearers) == 1 else str(last.account)
    numbers = ", ".join(f"#{op.opened}" for op in before)
    return CoSchedule(
        by(what, [(op.actor, f"#{op.opened}") for op in found]),
        seq=last.opened,
        operations=found,
        labels=labels,
        grant=last.invoke.grant,
        cause=f"{last.actor} began a call on {what} while {numbers} was open{_together(before, last)}",
        more=more,
    )


def _together(before: list[Operation], last: Operation) -> str:
    """For how long all of them were open together; empty if one has not ended, or no time passed."""
    ends = [op.end.t for op in (*before, last) if op.end is not None]
    seconds = min(ends) - last.invoke.t if len(ends) == len(before) + 1 else 0.0
    return f", for {seconds:.3g} s" if seconds > 0 else ""


def check_stale_bearer(history: History) -> Iterator[StaleBearer]:
    """No worker presents a bearer again after the service has told that worker that it is expired or revoked.

    Requests that were already under way don't count, nor do those that succeed (the service's clock was set back).
    """
    refused: dict[tuple[str, str | None, str | None], list[Operation]] = {}
    for op in history.operations:
        end = op.end
        if end is not None and end.type == "fail" and op.f != "token" and _is_over(end.status, end.get("reason")):
            refused.setdefault((op.actor, op.grant, op.bearer), []).append(op)
    if not refused:
        return
    sent: dict[tuple[str, str | None, str | None], list[Operation]] = {key: [] for key in refused}
    for op in history.operations:
        key = (op.actor, op.grant, op.bearer)
        if op.f != "token" and key in sent:
            sent[key].append(op)
    for (actor, grant, bearer), refusals in refused.items():
        pairs = list(_again(sent[actor, grant, bearer], refusals))
        if pairs:
            first, again = pairs[0]
            label = history.label(grant, bearer)
            reason = first.end.get("reason") if first.end else None
            yield StaleBearer(
                by(label, [(actor, f"#{first.opened}: {first.status} {reason}, again #{again.opened}")]),
                seq=again.opened,
                operations=(first, again),
                labels=(label,),
                grant=grant,
                cause=f"{actor} presented {label} (#{again.opened}) after it was told (#{first.closed}): {reason}",
                more=len(pairs) - 1,
            )


def _is_over(status: int | None, reason: str | None) -> bool:
    """Whether a refusal means that the bearer has ended; only the service's own refusals carry a reason."""
    return (status == 401 and reason in ("expired", "revoked")) or (status == 403 and reason == "revoked")


def _again(sent: list[Operation], refusals: list[Operation]) -> Iterator[tuple[Operation, Operation]]:
    """Each request that should not have been sent, with the refusal that its worker had received before."""
    good = 0
    for op in sent:
        if op.outcome == "ok":
            if op.f == "call":  # requests of other kinds succeed even with a dead bearer
                good = op.opened
            continue
        first = next((no for no in refusals if no.closed is not None and good < no.closed < op.opened), None)
        if first is not None:
            yield first, op
