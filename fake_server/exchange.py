"""One request's way through the service.

It has three steps. *Arrive*: the request is read and journalled as ``invoke``. *Commit*: the authority's
transition, or the bearer's check in the call's turn at the gate. *Deliver*: the reply, or its loss, journalled as
``ok``, ``fail`` or ``info``. Between them lie the waits, as values (:mod:`fake_server.effects`); a transport runs
:meth:`Exchange.step` until it returns ``None``, and :meth:`Exchange.abandon` when the client has disconnected.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fake_server.core.states import Outcome, RefreshState
from fake_server.effects import Break, BreakHow, Effect, Piece, Start, Wait, WaitWhy
from fake_server.policy import SETUP_LIFE, SETUP_SCOPE
from fake_server.protocol.wire import (
    Call,
    Intent,
    Malformed,
    Other,
    Reply,
    Request,
    TokenRequest,
    account_of,
    bearer_of,
    has_credentials,
    read,
)
from fake_server.secrecy import redact

if TYPE_CHECKING:
    from collections.abc import Generator

    from fake_server.core.authority import Grant, Redemption
    from fake_server.core.gate import Ticket
    from fake_server.events import EventType
    from fake_server.faults import Fault
    from fake_server.server import Server

__all__ = ["UNKNOWN", "Exchange"]

UNKNOWN = "unknown"
"""The label of a token that was not minted here."""

_SUCCESS = (Outcome.ROTATED, Outcome.KEPT, Outcome.REPLAYED)
_OF_COMMIT = ("account", "grant", "refresh", "issued")
_AT_ONCE = "Multiple concurrent requests using the same token. Please retry"
_OPEN_TO_ALL = ("hello", "unknown", "revoke")
_BREAKS: dict[str, BreakHow] = {"lost-reply": "lost", "garbage": "garbage", "truncated": "truncated"}


class _Gone(Exception):
    """Thrown into an exchange when its client has disconnected."""


class Exchange:
    """One request of ``actor`` on its way; it arrives with the first :meth:`step`.

    ``op`` is its number in the journal once it has arrived.
    """

    def __init__(self, server: Server, request: Request, actor: str) -> None:
        self.actor: str = server.journal.alias(actor)
        self.op: int | None = None
        self.kind: str = ""
        self._server = server
        self._request = request
        self._facts: dict[str, Any] = {}
        self._data: dict[str, Any] = {}
        self._fault: Fault | None = None
        self._was_live: bool = False
        self._ticket: Ticket | None = None
        self._steps = self._run()

    def step(self) -> Effect | None:
        """Go on to the next effect; ``None`` when the exchange is over."""
        with self._server.lock:
            effect = next(self._steps, None)
            if isinstance(effect, Piece) and effect.last:
                self._steps.close()  # it is the last effect; an open generator would be a reference cycle
            return effect

    def abandon(self, error: str) -> None:
        """End the exchange with an unknown outcome: the client has disconnected or gets no reply; ``error``: why."""
        with self._server.lock, suppress(StopIteration, _Gone):
            self._steps.throw(_Gone(error))

    def _run(self) -> Generator[Effect, None, None]:
        try:
            intent = self._arrive()
            reply = yield from self._commit(intent)
            if reply is not None:
                yield from self._deliver(reply)
        except _Gone as gone:
            self._end("info", error=str(gone))

    # Arrive.

    def _arrive(self) -> Intent:
        server = self._server
        intent = read(self._request)
        self.kind = intent.f
        self.op = server.journal.operation()
        server.open[self.op] = self
        data: dict[str, Any] = {"method": redact(self._request.method), "path": redact(self._request.path)}
        if self._request.host:
            data["host"] = redact(self._request.host)
        self._identify(intent)
        if isinstance(intent, TokenRequest):
            data["grant_type"] = intent.grant_type
            data["encoding"] = intent.encoding
        elif isinstance(intent, Call):
            data["stream"] = intent.stream
            if (dead := self._dead()) is not None:
                data["dead"] = dead  # refused at once: for the judge, such a call is never open
            if not has_credentials(self._request):
                data["credentials"] = False
        self._fault = server.faults.take(intent.f, self._facts.get("account"), self.actor)
        server.journal.add("invoke", intent.f, actor=self.actor, op=self.op, data=data, **self._facts)
        return intent

    def _identify(self, intent: Intent) -> None:
        """Find the grant of the presented token. A token that was not minted here is never journalled."""
        grant: Grant | None = None
        secret = bearer_of(self._request)
        if secret is not None:
            bearer = self._server.authority.bearer(secret, self._server.clock.now())
            self._facts["bearer"] = bearer.token.label if bearer.token else UNKNOWN
            grant = bearer.token.grant if bearer.token else None
        if not isinstance(intent, Call) and intent.refresh_token:
            token = self._server.authority.refresh_token(intent.refresh_token)
            self._facts["refresh"] = token.label if token else UNKNOWN
            self._was_live = token is not None and token.state is RefreshState.LIVE
            grant = token.grant if token else grant
        if grant is not None:
            self._facts["grant"] = grant.name
            self._facts["account"] = grant.account

    # Commit.

    def _commit(self, intent: Intent) -> Generator[Effect, None, Reply | None]:
        """The reply, or ``None`` if a fault has ended the exchange before the commit."""
        server, fault = self._server, self._fault
        yield Wait("request")
        yield from self._held()
        if fault is not None and fault.kind == "reset":
            yield self._break("reset", "connection reset")
            return None
        if fault is not None and fault.kind == "timeout":
            yield Break("hang")  # the transport abandons the exchange when the client gives up, or steps on
            self._end("info", error="timeout")
            return None
        assert self.op is not None
        if fault is not None and fault.answers and not fault.after_commit:
            reply = server.replies.fault(self.op, fault, intent.f, server.clock.now())
            self._journal_reason(reply)
        else:
            at_once = isinstance(intent, Other) and intent.name == "unknown"
            if isinstance(intent, Call):
                at_once = self._dead() is not None  # a gateway refuses such a bearer before it queues anything
                if not at_once:
                    yield from self._queue()
            if not at_once:
                yield from self._pass(server.policy.latency_of(intent.f), "latency")
            if fault is not None and fault.kind == "delay" and not fault.after_commit:
                yield from self._pass(fault.seconds or 0.0, "delay")
            reply = self._answer(intent, self.op)
            self._data["committed"] = True
            if fault is not None:
                reply = self._replaced(reply, fault, intent)
                yield from self._pass(fault.late_seconds, "delay")
        yield Wait("reply")
        return reply

    def _replaced(self, reply: Reply, fault: Fault, intent: Intent) -> Reply:
        """The reply of a fault that answers after the commit.

        Where it takes the place of a success, its client can't know that the service has done what was asked: the judge
        counts it among the unknown outcomes.
        """
        if not fault.answers or self.op is None:
            return reply
        if reply.status < 400:
            self._data["replaced"] = True
        return self._server.replies.fault(self.op, fault, intent.f, self._server.clock.now())

    def _journal_reason(self, reply: Reply) -> None:
        """Journal the reason if an injected 401 answers a bearer that has in fact expired or was revoked.

        From then on its worker knows that the bearer has ended. Without the reason in the journal, the judge would take
        the 401 for a mere fault, and not report the worker for presenting the bearer again.
        """
        if reply.status == 401 and (dead := self._dead()) is not None:
            self._data["reason"] = dead

    def _held(self) -> Generator[Effect, None, None]:
        server = self._server
        for hold in [hold for hold in server.holds if hold.target == self.kind and hold.open]:
            hold.join(self.actor, server.stopwatch())
            try:
                while (wait := hold.poll(server.stopwatch())) is not None:
                    yield wait
            except _Gone:
                hold.leave(self.actor)
                raise

    def _dead(self) -> str | None:
        """Why the presented bearer is refused, if it was minted here and has ended: ``expired`` or ``revoked``."""
        state = self._server.authority.bearer(bearer_of(self._request) or "", self._server.clock.now()).state
        return state if state in ("expired", "revoked") else None

    def _queue(self) -> Generator[Effect, None, None]:
        server = self._server
        key = self._facts.get("account") if server.policy.key == "account" else self._key()
        if key is None:
            return
        now = server.stopwatch()
        self._ticket = ticket = server.gate.arrive(key, now)
        while (wait := server.gate.poll(ticket, now)) is not None:
            yield wait
            now = server.stopwatch()
        waited = (ticket.started or 0.0) - ticket.arrived
        if waited > 0:
            facts = {name: self._facts[name] for name in ("account", "grant", "bearer") if name in self._facts}
            server.journal.note("queue", op=self.op, waited=round(waited, 6), overdue=ticket.overdue, **facts)

    def _key(self) -> str | None:
        grant, bearer = self._facts.get("grant"), self._facts.get("bearer")
        return None if grant is None else f"{grant} {bearer}"

    def _pass(self, seconds: float, why: WaitWhy) -> Generator[Effect, None, None]:
        """Wait until ``seconds`` have passed on the stopwatch, however often the transport wakes up before."""
        read = self._server.stopwatch
        until = read() + seconds
        while (left := until - read()) > 0:
            yield Wait(why, left)

    def _answer(self, intent: Intent, op: int) -> Reply:
        """The service's decision; all its changes of state are made here, at once."""
        if isinstance(intent, Malformed):
            return self._server.replies.oauth_error(op, intent.error)
        if isinstance(intent, TokenRequest):
            return self._login(intent, op) if intent.grant_type == "authorization_code" else self._refresh(intent, op)
        return self._with_bearer(intent, op)

    def _login(self, request: TokenRequest, op: int) -> Reply:
        server = self._server
        if not server.policy.knows(request.scope):
            return server.replies.oauth_error(op, "invalid_scope")
        account = account_of(request.code)
        if account is None or request.code in server.codes:  # RFC 6749 section 4.1.2: a code is used at most once
            return server.replies.invalid_grant(op, "code", server.policy.dialect)
        server.codes.add(request.code)
        setup = request.scope == SETUP_SCOPE or (request.expires_in or 0) >= SETUP_LIFE
        life = request.expires_in or (SETUP_LIFE if setup else server.policy.expires_in)
        grant = server.grant(account, expires_in=life, setup_token=setup, scope=request.scope, actor=self.actor, op=op)
        self._facts.update(grant=grant.name, account=account)
        self._facts["issued"] = {"access": "at#1", "refresh": None if setup else "rt#1"}
        refresh = None if setup else grant.refresh[0].secret
        deadline = None if setup else server.policy.refresh_expires_in
        return server.replies.token(op, grant.access[0], refresh, scope=grant.scope, life=life, deadline=deadline)

    def _refresh(self, request: TokenRequest, op: int) -> Reply:
        server = self._server
        if not server.policy.knows(request.scope):
            return server.replies.oauth_error(op, "invalid_scope")
        now = server.clock.now()
        life = request.expires_in or server.policy.expires_in
        done = server.authority.redeem(request.refresh_token, now, expires_in=life, was_live=self._was_live)
        self._note_redemption(done, now, op)
        if done.outcome is Outcome.RETRY:
            return server.replies.oauth_error(op, "invalid_request", _AT_ONCE)
        if done.outcome not in _SUCCESS or done.access is None or done.token is None:
            return server.replies.invalid_grant(op, done.reason, server.policy.dialect)
        secret = None if done.refresh is None else done.refresh.secret
        if done.outcome is Outcome.REPLAYED:  # an idempotent replay returns a pair issued before
            life = max(0, int(round(done.access.expires_at - now, 6)))
        scope = request.scope or done.token.grant.scope
        deadline = server.policy.refresh_expires_in if server.policy.refresh_slides else None
        return server.replies.token(op, done.access, secret, scope=scope, life=life, deadline=deadline)

    def _note_redemption(self, done: Redemption, now: float, op: int) -> None:
        server = self._server
        facts: dict[str, Any] = {"outcome": done.outcome.value}
        if done.access is not None:
            refresh = None if done.refresh is None else done.refresh.label
            self._facts["issued"] = {"access": done.access.label, "refresh": refresh}
            facts["expires"] = server.journal.time(done.access.expires_at)
        for name, labels in (("revoked", done.revoked), ("superseded", done.superseded)):
            if labels:
                facts[name] = list(labels)
        if done.token is not None:
            facts["accepts"] = list(server.authority.accepted(done.token.grant, now))
        known = {name: self._facts[name] for name in _OF_COMMIT if name in self._facts}
        server.journal.add("note", "commit", op=op, data=facts, **known)

    def _with_bearer(self, intent: Call | Other, op: int) -> Reply:
        """The reply to a request that presents a bearer (RFC 6750 section 3.1 for the errors)."""
        server = self._server
        replies, now = server.replies, server.clock.now()
        if isinstance(intent, Other) and intent.name in _OPEN_TO_ALL:
            return self._open_to_all(intent, op, now)
        secret = bearer_of(self._request)
        bearer = server.authority.bearer(secret or "", now)
        if bearer.token is None or bearer.state != "live":
            self._data["reason"] = bearer.state if secret else "missing"
            return replies.bad_bearer(op, bearer.state, presented=secret is not None)
        needed = (
            "user:profile" if isinstance(intent, Other) and intent.name in ("profile", "usage") else "user:inference"
        )
        if needed not in bearer.token.grant.scope.split():
            return replies.missing_scope(op, needed)
        if isinstance(intent, Call):
            return replies.message(op, intent, now)
        return replies.other(op, intent.name, bearer.token.grant, now)

    def _open_to_all(self, intent: Other, op: int, now: float) -> Reply:
        if intent.name == "revoke" and (token := self._server.authority.refresh_token(intent.refresh_token)):
            self._server.revoke_grants([token.grant])  # RFC 7009 section 2.2: 200, known token or not
        return self._server.replies.other(op, intent.name, None, now)

    # Deliver.

    def _deliver(self, reply: Reply) -> Generator[Effect, None, None]:
        start = Start(reply.status, reply.headers, reply.streamed)
        fault = self._fault
        if fault is not None and fault.kind in _BREAKS:
            data = b"\x16\x03\x00 this is not HTTP\r\n\r\n" if fault.kind == "garbage" else reply.pieces[0]
            cut = data[: len(data) // 2] if fault.kind == "truncated" else data
            yield self._break(_BREAKS[fault.kind], fault.kind, cut, start)
            return
        pieces, late = reply.pieces, 0.0
        if fault is not None and fault.kind == "stall" and fault.part == "body":
            late = fault.seconds or 0.0
            if not reply.streamed:  # only a stream can begin before its end
                middle = len(pieces[0]) // 2
                pieces = pieces[0][:middle], pieces[0][middle:]
                start = Start(reply.status, reply.headers, streamed=True)
        yield start
        for piece in pieces[:-1]:
            yield Piece(piece, last=False)
            yield from self._pass(late, "delay")
            late = 0.0
            yield Wait("piece")
        self._end("ok" if reply.status < 400 else "fail", status=reply.status)
        yield Piece(pieces[-1], last=True)

    def _break(self, how: BreakHow, error: str, data: bytes = b"", start: Start | None = None) -> Break:
        self._end("info", error=error)
        return Break(how, data, start)

    def _end(self, how: EventType, **known: Any) -> None:
        """Journal the operation's end, once, and leave the bearer's queue."""
        server = self._server
        if self.op is None or server.open.pop(self.op, None) is None:
            return
        if self._fault is not None:
            self._data["fault"] = str(self._fault)
        server.journal.add(how, self.kind, actor=self.actor, op=self.op, data=self._data, **self._facts, **known)
        if self._ticket is not None:
            server.gate.leave(self._ticket)
