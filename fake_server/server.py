"""One fake service: the façade that every transport calls.

One lock makes each step of an exchange between two waits atomic, so that the order of the journal is the order in which
things happened. :mod:`fake_server.exchange` describes a request's way through the service.
"""

from __future__ import annotations

from itertools import count
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from fake_server.core.authority import NOBODY, Authority, Grant, Origin
from fake_server.core.call_limits import CallLimits
from fake_server.core.clients import Clients
from fake_server.core.fault_plan import FaultPlan
from fake_server.core.gate import Gate
from fake_server.core.journal import Journal
from fake_server.events import worker_of
from fake_server.hosts import KNOWN_HOSTS
from fake_server.limits import MOST_SECONDS, checked_seconds
from fake_server.policy import SCOPE, SETUP_LIFE, SETUP_SCOPE
from fake_server.protocol import claims
from fake_server.protocol.asking import Asking
from fake_server.protocol.oauth_replies import OAuthReplies
from fake_server.protocol.replies import Replies
from fake_server.protocol.routes import routes_of
from fake_server.protocol.wire import check_account_name, claude_endpoints, read
from fake_server.secrecy import shown
from fake_server.service import CLAUDE_CLIENT, SERVICES, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fake_server.clock import Clock
    from fake_server.core.authority import AccessToken, Redemption
    from fake_server.core.clients import Client
    from fake_server.core.hold import Hold
    from fake_server.core.journal import Sink
    from fake_server.policy import Policy
    from fake_server.protocol.asking import Asked
    from fake_server.protocol.routes import Routes
    from fake_server.protocol.wire import Intent, Request

__all__ = ["GRACE_PERIOD_SECONDS", "Open", "Server"]

_OF_COMMIT = ("account", "grant", "refresh", "issued")

GRACE_PERIOD_SECONDS = 5.0
"""Real seconds that open requests have to end by themselves when a service, or a test that uses it, ends."""


_HOST_LENGTH = 255
"""Characters of a refused host's name that are journalled; a name has at most 253."""


class Open(Protocol):
    """A request that has arrived and not ended: the part of an exchange that the service uses."""

    actor: str
    judged: bool

    def is_call_of(self, account: str) -> bool:
        """Whether it is a call of that account."""
        ...

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
        service: Service = SERVICES["claude"],
        header: dict[str, Any] | None = None,
        sink: Sink | None = None,
    ) -> None:
        self.policy = policy
        self.service = service
        self.clock = clock
        self.stopwatch = stopwatch
        self.lock: RLock = RLock()
        form = {"service": service.to_dict()} if service.standard else {}
        self.journal: Journal = Journal(clock, {"policy": policy.to_dict(), **form, **(header or {})}, sink)
        self.authority: Authority = Authority(
            policy, namespace, claims.signer(service, namespace) if service.access_token == "jwt" else None
        )
        self.gate: Gate = Gate(policy)
        self.call_limits: CallLimits | None = CallLimits(policy) if policy.limits_calls else None
        self.faults: FaultPlan = FaultPlan(routes_of(service).targets) if service.standard else FaultPlan()
        self.holds: list[Hold] = []
        self.open: dict[int, Open] = {}
        self.crowd: int = 1
        """How many clients may come at once; a search knows, and leaves each of them time for its turn."""
        self.replies: Replies = Replies(namespace)
        self.codes: set[str] = set()
        self._numbers = count(1)
        self.read: Callable[[Request], Intent | Asked] = read
        """Reads what a request asks for."""
        if service.standard:
            self.routes: Routes = routes_of(service)
            self.oauth: OAuthReplies = OAuthReplies(service)
            self.clients: Clients = Clients(namespace, service.clients)
            self.read = Asking(service, self.clients, clock.now).read

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
                expires_in = checked_seconds(
                    "expires_in", expires_in, instead="; a login that is over already has expired=True"
                )
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
        origin: Origin = NOBODY,
    ) -> Grant:
        """A new grant for ``account``, which may already have some; journalled as the note ``login``."""
        with self.lock:
            now = self.clock.now()
            life = SETUP_LIFE if setup_token and expires_in is None else expires_in
            usual = self.service.scope if self.service.standard else SETUP_SCOPE if setup_token else SCOPE
            grant = self.authority.login(
                account, now, scope=scope or usual, expires_in=life, setup_token=setup_token, origin=origin
            )
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

    def redeem(self, secret: str, op: int, facts: dict[str, Any], *, expires_in: float, was_live: bool) -> Redemption:
        """Exchange a refresh token for operation ``op``; journalled as the note ``commit``.

        ``facts``: the operation's fields, which gain ``issued``; ``was_live``: the token was when the request arrived.
        """
        now = self.clock.now()
        done = self.authority.redeem(secret, now, expires_in=expires_in, was_live=was_live)
        more: dict[str, Any] = {"outcome": done.outcome.value}
        if done.access is not None:
            refresh = None if done.refresh is None else done.refresh.label
            facts["issued"] = {"access": done.access.label, "refresh": refresh}
            more["expires"] = self.journal.time(done.access.expires_at)
        for name, labels in (("revoked", done.revoked), ("superseded", done.superseded)):
            if labels:
                more[name] = list(labels)
        if done.token is not None:
            more["accepts"] = list(self.authority.accepted(done.token.grant, now))
        known = {name: facts[name] for name in _OF_COMMIT if name in facts}
        self.journal.add("note", "commit", op=op, data=more, **known)
        return done

    def token_reply(
        self, access: AccessToken, refresh: str | None, *, scope: str, life: float, issuer: str | None = None
    ) -> dict[str, Any]:
        """The reply of RFC 6749 section 5.1 that brings these tokens; ``issuer``: the service's name to the client."""
        if not self.service.standard:
            return self.replies.token_body(access, refresh, scope=scope, life=life)
        body: dict[str, Any] = {
            "access_token": access.secret,
            "token_type": "Bearer",
            "expires_in": int(life) if life == int(life) else life,
            **({} if refresh is None else {"refresh_token": refresh}),
            "scope": scope,
        }
        if "openid" in scope.split():
            grant = access.grant
            who = grant.origin.client or self.clients.of_account(grant.account).id
            name = issuer or self.routes.home.url(self.routes.issuer)
            body["id_token"] = claims.id_token(grant, self.clock.now(), life, issuer=name, audience=who)
        return {**body, **self.service.reply}

    def login_reply(self, grant: Grant, now: float) -> dict[str, Any]:
        """The token endpoint's reply that a login at ``now`` brought; ``expires_in`` is -1 if it had expired then."""
        access = grant.access[0]
        refresh = None if grant.setup_token else grant.refresh[0].secret
        return self.token_reply(access, refresh, scope=grant.scope, life=round(access.expires_at - now))

    def login_facts(self, grant: Grant) -> dict[str, Any]:
        """Everything that a client stores after a login that was made just now, as JSON."""
        client = self.client_of(grant.account)
        return {
            "name": grant.account,
            "access_token": grant.access[0].secret,
            "refresh_token": None if grant.setup_token else grant.refresh[0].secret,
            "expires_at": grant.access[0].expires_at,
            "tokens": self.login_reply(grant, self.clock.now()),
            "client_id": CLAUDE_CLIENT if client is None else client.id,
            "client_secret": None if client is None else client.secret,
        }

    def endpoints(self) -> dict[str, Any]:
        """What is served, as JSON: each endpoint with its methods and paths, and the resources."""
        if not self.service.standard:
            return {
                "service": "claude",
                "hosts": list(KNOWN_HOSTS),
                "endpoints": claude_endpoints(),
                "resources": ["POST /v1/messages"],
            }
        return {"service": self.service.name, "hosts": list(self.service.hosts), **self.routes.listed()}

    def client_of(self, account: str) -> Client | None:
        """The client that logged an account in; ``None`` for Claude's service, which takes any."""
        return self.clients.of_account(account) if self.service.standard else None

    def expire(self, account: str) -> None:
        """Expire the account's access tokens before their time."""
        self._end_grants(self.authority.grants_of(account), "expire", self.authority.expire)

    def revoke(self, account: str) -> None:
        """Revoke every token of the account, as an administrator would."""
        self.revoke_grants(self.authority.grants_of(account))

    def revoke_grants(self, grants: Sequence[Grant]) -> None:
        """Revoke every token of these grants."""
        self._end_grants(grants, "revoke", self.authority.revoke)

    def revoke_access(self, token: AccessToken) -> None:
        """Revoke one access token, and nothing else."""
        self._end_grants([token.grant], "revoke", lambda grant, now: self.authority.revoke_access(token, now))

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

    def let_go(self) -> bool:
        """Have each hold run out that holds a request, as no other can come; returns whether there was one."""
        with self.lock:
            holds = [hold for hold in self.holds if hold.open and hold.waited]
            for hold in holds:
                hold.run_out()
            return bool(holds)

    def abandon(self, actor: str | None, error: str) -> None:
        """Abandon the open requests of ``actor`` and its processes, or of all (``None``): nobody reads the replies."""
        with self.lock:
            for request in list(self.open.values()):
                if actor in (None, request.actor, worker_of(request.actor)):
                    request.abandon(error)

    def _end_grants(self, grants: Sequence[Grant], f: str, how: Callable[[Grant, float], tuple[str, ...]]) -> None:
        with self.lock:
            now = self.clock.now()
            for grant in grants:
                ended = list(how(grant, now))
                accepts = list(self.authority.accepted(grant, now))
                self.journal.note(f, account=grant.account, grant=grant.name, ended=ended, accepts=accepts)
