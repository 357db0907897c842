"""The states of a refresh token, as one table.

Two rules:

1. The table is the specification. ``(state, event) -> (state, outcome)``; a pair that it does not allow is
   ``ILLEGAL`` and leaves the state as it was. No transition of a refresh token is written anywhere else.
2. What an event *means* is decided before it comes here: whether a token that was presented again is a ``REPLAY``
   that the policy tolerates or a plain ``REDEEM`` is the policy's question; what the table says to it is not.

The words are RFC 6749 section 6 (refreshing), RFC 9700 section 4.14.2 (rotation and reuse detection).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TABLE", "Outcome", "RefreshEvent", "RefreshState", "diagram", "transition"]


class RefreshState(Enum):
    """The state of a refresh token. Compared and hashed by identity, for speed: each request looks states up."""

    UNKNOWN = "unknown"  # never minted here
    LIVE = "live"
    SPENT = "spent"  # exchanged; its successor is known ("information about the relationship is retained")
    REVOKED = "revoked"
    EXPIRED = "expired"

    __hash__: Callable[[object], int] = object.__hash__  # type: ignore[assignment]  # mypy has the bound one in mind


class RefreshEvent(Enum):
    """The events of a refresh token."""

    ISSUE = "issue"
    REDEEM = "redeem"  # presented in a token request
    KEEP = "keep"  # presented, under a policy that does not rotate
    REPLAY = "replay"  # presented again where the policy tolerates it: a grace window, a reuse count
    COLLIDE = "collide"  # presented at once with the request that spent it, where the policy asks one of them to retry
    EXPIRE = "expire"  # its deadline has passed
    REVOKE = "revoke"

    __hash__: Callable[[object], int] = object.__hash__  # type: ignore[assignment]  # mypy has the bound one in mind


class Outcome(Enum):
    """The result of a transition."""

    ISSUED = "issued"
    ROTATED = "rotated"  # success, with a new refresh token
    KEPT = "kept"  # success, the same refresh token stays good
    REPLAYED = "replayed"  # success, although it was spent before
    REUSED = "reused"  # invalid_grant, and reuse is detected
    REFUSED = "refused"  # invalid_grant
    RETRY = "retry"  # invalid_request, and nothing has happened
    ENDED = "ended"
    UNCHANGED = "unchanged"
    ILLEGAL = "illegal"


_S, _E, _O = RefreshState, RefreshEvent, Outcome

TABLE: dict[tuple[RefreshState, RefreshEvent], tuple[RefreshState, Outcome]] = {
    (_S.UNKNOWN, _E.ISSUE): (_S.LIVE, _O.ISSUED),
    (_S.UNKNOWN, _E.REDEEM): (_S.UNKNOWN, _O.REFUSED),
    (_S.UNKNOWN, _E.KEEP): (_S.UNKNOWN, _O.REFUSED),
    (_S.UNKNOWN, _E.REPLAY): (_S.UNKNOWN, _O.ILLEGAL),
    (_S.UNKNOWN, _E.COLLIDE): (_S.UNKNOWN, _O.ILLEGAL),
    (_S.UNKNOWN, _E.EXPIRE): (_S.UNKNOWN, _O.ILLEGAL),
    (_S.UNKNOWN, _E.REVOKE): (_S.UNKNOWN, _O.ILLEGAL),
    (_S.LIVE, _E.ISSUE): (_S.LIVE, _O.ILLEGAL),
    (_S.LIVE, _E.REDEEM): (_S.SPENT, _O.ROTATED),
    (_S.LIVE, _E.KEEP): (_S.LIVE, _O.KEPT),
    (_S.LIVE, _E.REPLAY): (_S.LIVE, _O.ILLEGAL),
    (_S.LIVE, _E.COLLIDE): (_S.LIVE, _O.ILLEGAL),
    (_S.LIVE, _E.EXPIRE): (_S.EXPIRED, _O.ENDED),
    (_S.LIVE, _E.REVOKE): (_S.REVOKED, _O.ENDED),
    (_S.SPENT, _E.ISSUE): (_S.SPENT, _O.ILLEGAL),
    (_S.SPENT, _E.REDEEM): (_S.SPENT, _O.REUSED),
    (_S.SPENT, _E.KEEP): (_S.SPENT, _O.REUSED),
    (_S.SPENT, _E.REPLAY): (_S.SPENT, _O.REPLAYED),
    (_S.SPENT, _E.COLLIDE): (_S.SPENT, _O.RETRY),
    (_S.SPENT, _E.EXPIRE): (_S.EXPIRED, _O.ENDED),
    (_S.SPENT, _E.REVOKE): (_S.REVOKED, _O.ENDED),
    (_S.REVOKED, _E.ISSUE): (_S.REVOKED, _O.ILLEGAL),
    (_S.REVOKED, _E.REDEEM): (_S.REVOKED, _O.REFUSED),
    (_S.REVOKED, _E.KEEP): (_S.REVOKED, _O.REFUSED),
    (_S.REVOKED, _E.REPLAY): (_S.REVOKED, _O.ILLEGAL),
    (_S.REVOKED, _E.COLLIDE): (_S.REVOKED, _O.ILLEGAL),
    (_S.REVOKED, _E.EXPIRE): (_S.REVOKED, _O.UNCHANGED),
    (_S.REVOKED, _E.REVOKE): (_S.REVOKED, _O.UNCHANGED),
    (_S.EXPIRED, _E.ISSUE): (_S.EXPIRED, _O.ILLEGAL),
    (_S.EXPIRED, _E.REDEEM): (_S.EXPIRED, _O.REFUSED),
    (_S.EXPIRED, _E.KEEP): (_S.EXPIRED, _O.REFUSED),
    (_S.EXPIRED, _E.REPLAY): (_S.EXPIRED, _O.ILLEGAL),
    (_S.EXPIRED, _E.COLLIDE): (_S.EXPIRED, _O.ILLEGAL),
    (_S.EXPIRED, _E.EXPIRE): (_S.EXPIRED, _O.UNCHANGED),
    (_S.EXPIRED, _E.REVOKE): (_S.REVOKED, _O.ENDED),
}


def transition(state: RefreshState, event: RefreshEvent) -> tuple[RefreshState, Outcome]:
    """The table's row for ``state`` and ``event``."""
    return TABLE[state, event]


def diagram() -> str:
    """The table as a Mermaid state diagram; illegal pairs are left out."""
    lines = ["stateDiagram-v2", "    [*] --> unknown"]
    for (state, event), (after, outcome) in TABLE.items():
        if outcome is not Outcome.ILLEGAL:
            lines.append(f"    {state.value} --> {after.value}: {event.value} / {outcome.value}")
    return "\n".join(lines) + "\n"
