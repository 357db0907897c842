"""The lives of the access tokens of a grant, event by event: which have ended, and how old the others are."""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fake_server.events import Event
    from pytest_claude_tokens.judge.history import History

__all__ = ["Lifetimes"]


class Lifetimes:
    """The access tokens of each grant that refreshed, and which of them had ended by the last event observed.

    A token ends once: by expiry, by ``expire`` or ``revoke``, by a revocation after a reuse, or by its first 401. It
    stays ended when the service's clock goes back. If a grant's login was not recorded, its first access token counts
    as ended.
    """

    def __init__(self, history: History) -> None:
        logins = {note.grant for note in history.noted("login")}
        self._seconds = float(history.policy.get("expires_in", 28800))
        self._now = -math.inf
        self._put_back = 0.0
        """Seconds by which the service's clock was put back so far."""
        self._superseded: set[tuple[str | None, str]] = set()
        self._lives: dict[tuple[str | None, str], tuple[float, float]] = {}
        self._to_expire: dict[str | None, list[tuple[float, str]]] = {}
        """For each grant a heap of the access tokens that have not expired yet."""
        self._ended: dict[str | None, set[str]] = {
            grant: set() if grant in logins else {"at#1"} for grant, _ in history.presentations
        }
        self._unauthorized = {
            op.closed: (op.grant, op.bearer) for op in history.operations if op.status == 401 and op.f != "token"
        }

    def observe(self, event: Event) -> None:
        """Take the next event of the history into account."""
        self._set_time(event.t)
        if event.type == "note":
            if event.f in ("login", "commit"):
                self._issue(event, event.get("expires"))
            for label in event.get("ended") or event.get("revoked") or ():
                self._end(event.grant, label)
            for label in event.get("superseded") or ():
                self._superseded.add((event.grant, label))
        elif event.seq in self._unauthorized:
            self._end(*self._unauthorized[event.seq])
        elif event.issued:
            self._issue(event, None)

    def ended(self, grant: str | None) -> int:
        """How many access tokens of ``grant`` have ended so far."""
        self._sweep(grant)
        return len(self._ended[grant])

    def is_live(self, grant: str | None, label: str) -> bool:
        """Whether this access token of a grant that refreshed has been issued and has not ended.

        One that the next refresh ended is not live. It doesn't count as ended before its first 401: else each refresh
        would pay for the next.
        """
        self._sweep(grant)
        known = (grant, label) in self._lives and (grant, label) not in self._superseded
        return known and label not in self._ended[grant]

    def age(self, grant: str | None, label: str) -> tuple[float, float]:
        """The seconds since an access token was issued, and those of its whole life; 0 and 0 for an unknown one.

        Only time that passed counts: where the service's clock was put back, a client's own went on.
        """
        issued, life = self._lives.get((grant, label), (self._elapsed, 0.0))
        return self._elapsed - issued, life

    @property
    def _elapsed(self) -> float:
        """The seconds that have passed, on a clock that nobody puts back."""
        return self._now + self._put_back

    def _set_time(self, t: float) -> None:
        if t < self._now:  # tokens that had expired by the later time stay expired
            for grant in self._to_expire:
                self._sweep(grant)
            self._put_back += self._now - t
        self._now = t

    def _issue(self, event: Event, expires: float | None) -> None:
        label = (event.issued or {}).get("access")
        if label is not None and (event.grant, label) not in self._lives:
            until = event.t + self._seconds if expires is None else expires
            heappush(self._to_expire.setdefault(event.grant, []), (until, label))
            self._lives[event.grant, label] = self._elapsed, until - event.t

    def _end(self, grant: str | None, label: str | None) -> None:
        if label is not None and label.startswith("at#") and grant in self._ended:
            self._ended[grant].add(label)

    def _sweep(self, grant: str | None) -> None:
        heap = self._to_expire.get(grant)
        while heap and heap[0][0] <= self._now:
            self._end(grant, heappop(heap)[1])
