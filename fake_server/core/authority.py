"""Grants and their chains of tokens: decides which tokens are accepted and issued. Sans-IO; the time is passed in.

A *grant* is one login and all tokens that descend from it. Every change of a refresh token's state goes through
:data:`fake_server.core.states.TABLE`; an event that the table calls illegal raises :class:`IllegalTransition` and
changes nothing. Not thread-safe: :class:`fake_server.server.Server` holds the lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fake_server.core.states import Outcome, RefreshEvent, RefreshState, transition
from fake_server.tokens import label, mint

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.policy import Policy

__all__ = [
    "NOBODY",
    "AccessToken",
    "Authority",
    "Bearer",
    "Grant",
    "IllegalTransition",
    "Origin",
    "Redemption",
    "RefreshToken",
]

Death = Literal["reuse", "revoke", "expiry"]
BearerState = Literal["live", "expired", "revoked", "unknown"]


class IllegalTransition(RuntimeError):
    """The code asked for a transition that the table forbids: a defect of the server, never of the client."""


@dataclass(slots=True, kw_only=True, eq=False)
class RefreshToken:
    """One refresh token and its state. ``parent`` is the token that was exchanged for it."""

    secret: str = field(repr=False)
    label: str
    grant: Grant
    parent: RefreshToken | None
    state: RefreshState = RefreshState.UNKNOWN
    first_used: float | None = None
    replays: int = 0
    successor: RefreshToken | None = None

    def apply(self, event: RefreshEvent) -> Outcome:
        """Make the table's transition. Raises :class:`IllegalTransition`, without a change, if the table forbids it."""
        after, outcome = transition(self.state, event)
        if outcome is Outcome.ILLEGAL:
            raise IllegalTransition(f"{event.value} of {self.label}, which is {self.state.value}")
        self.state = after
        return outcome


@dataclass(slots=True, kw_only=True, eq=False)
class AccessToken:
    """One access token. It expires by the clock, unless it is ended before."""

    secret: str = field(repr=False)
    label: str
    grant: Grant
    expires_at: float
    ended: Literal["expired", "revoked"] | None = None

    def state(self, now: float) -> BearerState:
        """Its state at ``now``."""
        return self.ended or ("expired" if now >= self.expires_at else "live")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Facts of a login that its tokens carry on.

    ``client``: to which they were issued (``None``: to whoever has them); ``issuer``: the service's name as that login
    knew it (``None``: as each request knows it); ``nonce``: what ID tokens must hold; ``audience``: the resource that
    they are for (RFC 8707).
    """

    client: str | None = None
    issuer: str | None = None
    nonce: str | None = None
    audience: str | None = None


NOBODY = Origin()
"""The origin of a login that is the test's own."""


@dataclass(slots=True, kw_only=True, eq=False)
class Grant:
    """One login. ``deadline``: the time at which its refresh tokens expire (for a setup-token, its access token);
    ``death``: the cause of an earlier end.
    """

    name: str
    account: str
    scope: str
    deadline: float
    setup_token: bool = False
    access: list[AccessToken] = field(default_factory=list)
    refresh: list[RefreshToken] = field(default_factory=list)
    unfinished: list[RefreshToken] = field(default_factory=list)
    """The refresh tokens that may still be accepted, now or later: few, however long the chain is."""
    death: Death | None = None
    origin: Origin = NOBODY

    def died(self, now: float) -> Death | None:
        """The cause of this grant's end, or ``None`` while it lives."""
        return self.death or ("expiry" if now >= self.deadline else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """The result of presenting a refresh token.

    ``revoked``: the labels of tokens that a detected reuse ended; ``superseded``: those that a refresh ended.
    """

    outcome: Outcome
    token: RefreshToken | None = None
    access: AccessToken | None = None
    refresh: RefreshToken | None = None
    revoked: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()
    reason: str = "spent or unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """A presented access token and its state."""

    state: BearerState
    token: AccessToken | None = None


class Authority:
    """The state of every grant under one policy.

    ``sign``: mints an access token for a grant, from its number, the time and its life in seconds.
    """

    def __init__(
        self, policy: Policy, namespace: str, sign: Callable[[Grant, int, float, float], str] | None = None
    ) -> None:
        self.policy = policy
        self.namespace = namespace
        self._sign = sign
        self.grants: list[Grant] = []
        self._of_account: dict[str, list[Grant]] = {}
        self._minted = 0
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, RefreshToken] = {}

    def login(
        self,
        account: str,
        now: float,
        *,
        scope: str,
        expires_in: float | None = None,
        setup_token: bool = False,
        origin: Origin = NOBODY,
    ) -> Grant:
        """A new grant with its first pair; a setup-token grant has no refresh token."""
        life = self.policy.expires_in if expires_in is None else expires_in
        deadline = now + (life if setup_token else self.policy.refresh_expires_in)
        name = f"g#{len(self.grants) + 1}"
        grant = Grant(
            name=name,
            account=account,
            scope=scope,
            deadline=deadline,
            setup_token=setup_token,
            origin=origin,
        )
        self.grants.append(grant)
        self._of_account.setdefault(account, []).append(grant)
        self._issue_access(grant, now, life)
        if not setup_token:
            self._issue_refresh(grant, None)
        return grant

    def redeem(self, secret: str, now: float, *, expires_in: float | None = None, was_live: bool = False) -> Redemption:
        """Exchange a refresh token that was presented in a token request (RFC 6749 section 6).

        ``was_live``: it was when the request arrived, so what has spent it since was under way at the same time.
        """
        token = self._refresh.get(secret)
        if token is None:
            return Redemption(outcome=transition(RefreshState.UNKNOWN, self._presented())[1])
        grant = token.grant
        if now >= grant.deadline:
            token.apply(RefreshEvent.EXPIRE)
        outcome = token.apply(self._meaning(token, now, was_live=was_live))
        if outcome in (Outcome.REFUSED, Outcome.RETRY):
            return Redemption(outcome=outcome, token=token, reason=token.state.value)
        if outcome is Outcome.REUSED:
            return Redemption(outcome=outcome, token=token, revoked=self._detect_reuse(grant, now))
        return self._exchanged(token, outcome, now, self.policy.expires_in if expires_in is None else expires_in)

    def _exchanged(self, token: RefreshToken, outcome: Outcome, now: float, life: float) -> Redemption:
        """A new pair, or part of one, for an accepted token; ``life``: of the access token, in seconds."""
        grant = token.grant
        if self.policy.refresh_slides:
            grant.deadline = now + self.policy.refresh_expires_in
        if outcome is Outcome.REPLAYED:
            token.replays += 1
            if self.policy.grace_mode == "idempotent" and token.successor is not None:
                index = grant.refresh.index(token.successor)
                return Redemption(
                    outcome=outcome, token=token, access=grant.access[index], refresh=grant.refresh[index]
                )
        else:
            token.first_used = now
        superseded = self._end_access(grant, "revoked", now) if self.policy.revoke_access else ()
        access = self._issue_access(grant, now, life)
        if outcome is Outcome.KEPT:
            refresh = token if self.policy.repeat_refresh else None
        else:
            token.successor = refresh = self._issue_refresh(grant, token)
        return Redemption(outcome=outcome, token=token, access=access, refresh=refresh, superseded=superseded)

    def bearer(self, secret: str, now: float) -> Bearer:
        """The presented access token and its state at ``now``."""
        token = self._access.get(secret)
        return Bearer(state="unknown") if token is None else Bearer(state=token.state(now), token=token)

    def refresh_token(self, secret: str) -> RefreshToken | None:
        """The refresh token of that secret, or ``None`` if it was not minted here."""
        return self._refresh.get(secret)

    def accepts(self, token: RefreshToken, now: float) -> bool:
        """Whether a token request with ``token`` would succeed at ``now``. Changes nothing."""
        if now >= token.grant.deadline:
            return False
        outcome = transition(token.state, self._meaning(token, now))[1]
        return outcome in (Outcome.ROTATED, Outcome.KEPT, Outcome.REPLAYED)

    def accepted(self, grant: Grant, now: float) -> tuple[str, ...]:
        """The labels of the refresh tokens of ``grant`` that would be accepted at ``now``."""
        grant.unfinished = [token for token in grant.unfinished if not self._is_finished(token)]
        return tuple(token.label for token in grant.unfinished if self.accepts(token, now))

    def _is_finished(self, token: RefreshToken) -> bool:
        """Whether ``token`` can never be accepted again, even if the clock goes back."""
        if token.state is RefreshState.SPENT:
            return not self.policy.grace_seconds
        return token.state in (RefreshState.REVOKED, RefreshState.EXPIRED)

    def expire(self, grant: Grant, now: float) -> tuple[str, ...]:
        """Expire the access tokens of ``grant`` before their time; returns the labels of those that this ended."""
        return self._end_access(grant, "expired", now)

    def revoke_access(self, token: AccessToken, now: float) -> tuple[str, ...]:
        """Revoke one access token; returns its label if that ended it."""
        live = token.state(now) == "live"
        token.ended = token.ended or "revoked"
        return (token.label,) if live else ()

    def revoke(self, grant: Grant, now: float, death: Death = "revoke") -> tuple[str, ...]:
        """Revoke every token of ``grant``; returns the labels of those that this ended."""
        if grant.died(now) is None:
            grant.death = death
        return self._revoke_refresh(grant, now) + self._end_access(grant, "revoked", now)

    def forget(self) -> None:
        """Drop all grants and tokens after the last request: their reference cycles would wait for the collector."""
        for grant in self.grants:
            for token in grant.refresh:
                token.successor = None
            grant.access.clear()
            grant.refresh.clear()
            grant.unfinished.clear()
        self.grants.clear()
        self._of_account.clear()
        self._access.clear()
        self._refresh.clear()

    def grants_of(self, account: str) -> list[Grant]:
        """All grants of the account, oldest first."""
        return list(self._of_account.get(account, ()))

    def _presented(self) -> RefreshEvent:
        return RefreshEvent.REDEEM if self.policy.rotate else RefreshEvent.KEEP

    def _meaning(self, token: RefreshToken, now: float, *, was_live: bool = False) -> RefreshEvent:
        if was_live and token.state is RefreshState.SPENT and self.policy.at_once == "retry":
            return RefreshEvent.COLLIDE
        if token.state is RefreshState.SPENT and self._in_grace(token, now):
            return RefreshEvent.REPLAY
        return self._presented()

    def _in_grace(self, token: RefreshToken, now: float) -> bool:
        policy = self.policy
        if not policy.grace_seconds:  # no grace period, even if the clock goes back
            return False
        if token.first_used is None or not now < token.first_used + policy.grace_seconds:
            return False
        if policy.grace_count is not None and token.replays >= policy.grace_count:
            return False
        if policy.grace_mode != "previous-only":
            return True
        # Only the parent of a token that has not been used yet is "the previous one" (Auth0, Keycloak's "Stale token").
        children = [child for child in token.grant.refresh if child.parent is token]
        return all(child.state is RefreshState.LIVE for child in children)

    def _detect_reuse(self, grant: Grant, now: float) -> tuple[str, ...]:
        if self.policy.reuse == "refuse":
            return ()
        if self.policy.reuse == "revoke-family":
            return self.revoke(grant, now, "reuse")
        grant.death = "reuse"
        return self._revoke_refresh(grant, now)

    def _revoke_refresh(self, grant: Grant, now: float) -> tuple[str, ...]:
        """Revoke the grant's refresh tokens; returns the labels of those that were live until now."""
        in_time = now < grant.deadline
        live = tuple(token.label for token in grant.refresh if in_time and token.state is RefreshState.LIVE)
        for token in grant.refresh:
            token.apply(RefreshEvent.REVOKE)
        return live

    def _end_access(self, grant: Grant, how: Literal["expired", "revoked"], now: float) -> tuple[str, ...]:
        ended = tuple(token.label for token in grant.access if token.state(now) == "live")
        for token in grant.access:
            token.ended = token.ended or how
        return ended

    def _issue_access(self, grant: Grant, now: float, life: float) -> AccessToken:
        token = AccessToken(
            secret=self._mint("access") if self._sign is None else self._sign(grant, self._number(), now, life),
            label=label("access", len(grant.access) + 1),
            grant=grant,
            expires_at=now + life,
        )
        grant.access.append(token)
        self._access[token.secret] = token
        return token

    def _issue_refresh(self, grant: Grant, parent: RefreshToken | None) -> RefreshToken:
        token = RefreshToken(
            secret=self._mint("refresh"), label=label("refresh", len(grant.refresh) + 1), grant=grant, parent=parent
        )
        token.apply(RefreshEvent.ISSUE)
        grant.refresh.append(token)
        grant.unfinished.append(token)
        self._refresh[token.secret] = token
        return token

    def _mint(self, kind: Literal["access", "refresh"]) -> str:
        return mint(kind, self.namespace, self._number())

    def _number(self) -> int:
        self._minted += 1
        return self._minted
