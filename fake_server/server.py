"""One fake service: the façade that every transport calls.

One lock makes each step of an exchange between two waits atomic, so that the order of the journal is the order in which
things happened. :mod:`fake_server.exchange` describes a request's way through the service.
"""

from __future__ import annotations

from itertools import count
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from fake_server.core.authority import Authority, Grant
from fake_server.core.fault_plan import FaultPlan
from fake_server.core.gate import Gate
from fake_server.core.journal import Journal
from fake_server.limits import MOST_SECONDS, checked_seconds
from fake_server.policy import SCOPE, SETUP_LIFE, SETUP_SCOPE
from fake_server.protocol.replies import Replies
from fake_server.protocol.wire import check_account_name
from fake_server.secrecy import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fake_server.clock import Clock
    from fake_server.core.hold import Hold
    from fake_server.core.journal import Sink
    from fake_server.policy import Policy

__all__ = ["GRACE_PERIOD_SECONDS", "Open", "Server"]

GRACE_PERIOD_SECONDS = 5.0
"""Real seconds that open requests have to end by themselves when a service, or a test that uses it, ends."""


_HOST_LENGTH = 255
"""Characters of a refused host's name that are journalled; a name has at most 253."""


class Open(Protocol):
    """A request that has arrived and not ended: the part of an exchange that the service uses."""

    actor: str

    def abandon(self, error: str) -> None:
        """End it, as its client has disconnected or will never be answered; ``error`` is the journal's reason."""
        ...


class Server:
    """One fake service: its grants, its queues, its journal, its planned faults and holds.

    ``stopwatch`` reads the seconds that measure waits; it runs even while ``clock`` is frozen.
    """

    def __init__(
        self,
        policy: Policy,
        clock: Clock,
        stopwatch: Callable[[], float],
        *,
        namespace: str,
        header: dict[str, Any] | None = None,
        sink: Sink | None = None,
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.stopwatch = stopwatch
        self.lock: RLock = RLock()
        self.journal: Journal = Journal(clock, {"policy": policy.to_dict(), **(header or {})}, sink)
        self.authority: Authority = Authority(policy, namespace)
        self.gate: Gate = Gate(policy)
        self.faults: FaultPlan = FaultPlan()
        self.holds: list[Hold] = []
        self.open: dict[int, Open] = {}
        self.replies: Replies = Replies(namespace)
        self.codes: set[str] = set()
        self._numbers = count(1)

    def login(
        self,
        name: str | None = None,
        *,
        expired: bool = False,
        expires_in: float | None = None,
        setup_token: bool = False,
    ) -> Grant:
        """Log an account in: the first grant of ``name``, by default the next free one of ``a1``, ``a2``, …

        ``expires_in``: lifetime of its access token in seconds, by default the policy's (a setup-token: a year);
        ``expired``: it is over already. Raises ``ValueError``, before anything is changed, for an invalid value, and
        for an account that is already logged in.
        """
        with self.lock:
            if expires_in is not None:
                expires_in = checked_seconds("expires_in", expires_in)
            for what, flag in (("expired", expired), ("setup_token", setup_token)):
                if not isinstance(flag, bool):
                    raise ValueError(f"{what}={shown(flag)}: must be True or False")
            if name is None:
                name = next(free for n in self._numbers if not self.authority.grants_of(free := f"a{n}"))
            check_account_name(name)
            if self.authority.grants_of(name):
                raise ValueError(
                    f"the account {shown(name)} is logged in already: keep what the login gave, or name another"
                )
            return self.grant(name, expires_in=-1.0 if expired else expires_in, setup_token=setup_token)

    def grant(
        self,
        account: str,
        *,
        expires_in: float | None = None,
        setup_token: bool = False,
        scope: str | None = None,
        actor: str = "service",
        op: int | None = None,
    ) -> Grant:
        """A new grant for ``account``, which may already have some; journalled as the note ``login``."""
        with self.lock:
            now = self.clock.now()
            life = SETUP_LIFE if setup_token and expires_in is None else expires_in
            wanted = scope or (SETUP_SCOPE if setup_token else SCOPE)
            grant = self.authority.login(account, now, scope=wanted, expires_in=life, setup_token=setup_token)
            refresh = None if setup_token else grant.refresh[0].label
            facts = {
                "setup_token": setup_token,
                "expires": self.journal.time(grant.access[0].expires_at),
                "accepts": list(self.authority.accepted(grant, now)),
            }
            issued = {"access": grant.access[0].label, "refresh": refresh}
            self.journal.add(
                "note", "login", actor=actor, op=op, account=account, grant=grant.name, issued=issued, data=facts
            )
            return grant

    def expire(self, account: str) -> None:
        """Expire the account's access tokens before their time."""
        self._end_grants(self.authority.grants_of(account), "expire", self.authority.expire)

    def revoke(self, account: str) -> None:
        """Revoke every token of the account, as an administrator would."""
        self.revoke_grants(self.authority.grants_of(account))

    def revoke_grants(self, grants: Sequence[Grant]) -> None:
        """Revoke every token of these grants."""
        self._end_grants(grants, "revoke", self.authority.revoke)

    def advance(self, seconds: float) -> None:
        """Move the service's clock by ``seconds``; a negative number moves it back. Raises ``ValueError``."""
        seconds = checked_seconds("advance: seconds", seconds, -MOST_SECONDS)
        with self.lock:
            self.clock.advance(seconds)
            self.journal.note("advance", seconds=seconds)

    def refused(
        self, actor: str, remedy: str, *, what: str | None = None, host: str | None = None, port: int | None = None
    ) -> None:
        """Journal that ``actor`` was not let through to ``host``, or to do ``what``: clients often swallow the error.

        ``remedy``: how it is served after all.
        """
        facts = {"what": what, "host": host and host[:_HOST_LENGTH], "port": port, "remedy": remedy}
        known: dict[str, Any] = {name: fact for name, fact in facts.items() if fact is not None}
        with self.lock:
            self.journal.note("refused", actor=actor, **known)

    def abandon(self, actor: str | None, error: str) -> None:
        """Abandon the open requests of ``actor`` (``None``: of all actors), as no client will read their replies."""
        with self.lock:
            for request in [request for request in self.open.values() if actor in (None, request.actor)]:
                request.abandon(error)

    def _end_grants(self, grants: Sequence[Grant], f: str, how: Callable[[Grant, float], tuple[str, ...]]) -> None:
        with self.lock:
            now = self.clock.now()
            for grant in grants:
                ended = list(how(grant, now))
                accepts = list(self.authority.accepted(grant, now))
                self.journal.note(f, account=grant.account, grant=grant.name, ended=ended, accepts=accepts)
