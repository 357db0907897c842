"""The façade that every transport calls: one fake service.

One lock makes each stretch of an exchange between two waits atomic, so that the order of the journal is the order of
the facts. How a request goes through is told in :mod:`fake_server.exchange`.
"""

from __future__ import annotations

from threading import RLock
from typing import IO, TYPE_CHECKING, Any

from fake_server.core.authority import Authority, Grant
from fake_server.core.gate import Gate
from fake_server.core.journal import Journal
from fake_server.exchange import Exchange
from fake_server.faults import FaultPlan
from fake_server.policy import SCOPE, SETUP_LIFE, SETUP_SCOPE
from fake_server.protocol.replies import Replies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fake_server.clock import Clock
    from fake_server.core.hold import Hold
    from fake_server.policy import Policy
    from fake_server.protocol.wire import Request

__all__ = ["Server"]


class Server:
    """One fake service: its grants, its gate, its journal, and what is to go wrong.

    ``stopwatch`` reads the seconds that waits are measured by; it runs when ``clock`` is frozen.
    """

    def __init__(
        self,
        policy: Policy,
        clock: Clock,
        stopwatch: Callable[[], float],
        *,
        namespace: str,
        header: dict[str, Any] | None = None,
        sink: IO[str] | None = None,
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.stopwatch = stopwatch
        self.lock = RLock()
        self.journal = Journal(clock, {"policy": policy.to_dict(), **(header or {})}, sink)
        self.authority = Authority(policy, namespace)
        self.gate = Gate(policy)
        self.faults = FaultPlan()
        self.holds: list[Hold] = []
        self.open: dict[int, Exchange] = {}
        self.replies = Replies(namespace)
        self.codes: set[str] = set()

    def login(
        self,
        account: str,
        *,
        expires_in: float | None = None,
        setup_token: bool = False,
        scope: str | None = None,
        actor: str = "service",
        op: int | None = None,
    ) -> Grant:
        """A new grant for ``account``, journalled as the note ``login``."""
        with self.lock:
            now = self.clock.now()
            life = SETUP_LIFE if setup_token and expires_in is None else expires_in
            wanted = scope or (SETUP_SCOPE if setup_token else SCOPE)
            grant = self.authority.login(account, now, scope=wanted, expires_in=life, setup_token=setup_token)
            refresh = None if setup_token else grant.refresh[0].label
            self.journal.note(
                "login",
                actor=actor,
                op=op,
                account=account,
                grant=grant.name,
                issued={"access": grant.access[0].label, "refresh": refresh},
                setup_token=setup_token,
                expires=self.journal.time(grant.access[0].expires_at),
                accepts=list(self.authority.accepted(grant, now)),
            )
            return grant

    def expire(self, account: str) -> None:
        """End the account's access tokens as if their time had passed."""
        self._end_grants(self.authority.grants_of(account), "expire", self.authority.expire)

    def revoke(self, account: str) -> None:
        """End every token of the account, as an administrator would."""
        self.revoke_grants(self.authority.grants_of(account))

    def revoke_grants(self, grants: Sequence[Grant]) -> None:
        """End every token of these grants."""
        self._end_grants(grants, "revoke", self.authority.revoke)

    def advance(self, seconds: float) -> None:
        """Move the service's clock."""
        with self.lock:
            self.clock.advance(seconds)
            self.journal.note("advance", seconds=seconds)

    def exchange(self, request: Request, actor: str) -> Exchange:
        """Begin a request of ``actor``: it arrives with the first :meth:`Exchange.step`."""
        return Exchange(self, request, actor)

    def _end_grants(self, grants: Sequence[Grant], f: str, how: Callable[[Grant, float], tuple[str, ...]]) -> None:
        with self.lock:
            now = self.clock.now()
            for grant in grants:
                ended = list(how(grant, now))
                accepts = list(self.authority.accepted(grant, now))
                self.journal.note(f, account=grant.account, grant=grant.name, ended=ended, accepts=accepts)
