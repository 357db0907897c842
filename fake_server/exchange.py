"""One request's way through the service.

It has three steps. *Arrive*: the request is read and journalled as ``invoke``. *Commit*: the authority's
transition, or the bearer's check in the call's turn at the gate. *Deliver*: the reply, or its loss, journalled as
``ok``, ``fail`` or ``info``. Between them lie the waits, as values (:mod:`fake_server.effects`); a transport runs
:meth:`Exchange.step` until it returns ``None``, and :meth:`Exchange.abandon` when the client has disconnected.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fake_server import answers
from fake_server.clock import DEBUGGED
from fake_server.core.states import RefreshState
from fake_server.effects import Break, BreakHow, Effect, Piece, Start, Wait, WaitWhy
from fake_server.protocol.asking import Asked
from fake_server.protocol.wire import (
    Call,
    Intent,
    Reply,
    Request,
    TokenRequest,
    bearer_of,
    has_credentials,
    refresh_tokens_in,
)
from fake_server.secrecy import redact

if TYPE_CHECKING:
    from collections.abc import Generator

    from fake_server.core.authority import Grant
    from fake_server.core.call_limits import CallLimits
    from fake_server.core.gate import Ticket
    from fake_server.events import EventType
    from fake_server.faults import Fault
    from fake_server.server import Server

__all__ = ["UNKNOWN", "Exchange"]

UNKNOWN = "unknown"
"""The label of a token that was not minted here."""

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
        self.judged: bool = True
        """Whether something can be concluded from it; if not, the journal says why."""
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

    def _arrive(self) -> Intent | Asked:
        server = self._server
        intent = server.read(self._request)
        self.kind = intent.f
        self.op = server.journal.operation()
        server.open[self.op] = self
        data: dict[str, Any] = {"method": redact(self._request.method), "path": redact(self._request.path)}
        if self._request.host:
            data["host"] = redact(self._request.host)
        self._identify(intent)
        target: str = intent.f
        if isinstance(intent, TokenRequest):
            data["grant_type"] = intent.grant_type
            data["encoding"] = intent.encoding
        elif isinstance(intent, Call):
            data["stream"] = intent.stream
            if not has_credentials(self._request):
                data["credentials"] = False
        elif isinstance(intent, Asked):
            target = intent.target
            if intent.f == "token":
                data["grant_type"] = intent.grant_type or "?"
                data["encoding"] = intent.encoding
        if intent.f == "call" and (dead := self._dead()) is not None:
            data["dead"] = dead  # refused at once: for the judge, such a call is never open
        if why := self._unjudged(intent):
            data["unjudged"] = why
            self.judged = False
        self._fault = server.faults.take(target, self._facts.get("account"), self.actor)
        if server.call_limits is not None and intent.f == "call" and self._fault is None and "dead" not in data:
            self._fault = self._limit(server.call_limits)
        server.journal.add("invoke", intent.f, actor=self.actor, op=self.op, data=data, **self._facts)
        return intent

    def _limit(self, limits: CallLimits) -> Fault | None:
        """The policy's refusal of a call for the number of its account's calls."""
        account = self._facts.get("account")
        if account is None:
            return None
        others = [one for one in self._server.open.values() if one.is_call_of(account) and one is not self]
        return limits.refusal(account, self._server.clock.now(), len(others))

    def is_call_of(self, account: str) -> bool:
        """Whether it is a call of that account."""
        return self.kind == "call" and self._facts.get("account") == account

    def _identify(self, intent: Intent | Asked) -> None:
        """Find the grant of the presented token. A token that was not minted here is never journalled."""
        grant: Grant | None = None
        secret = bearer_of(self._request)
        if secret is not None:
            bearer = self._server.authority.bearer(secret, self._server.clock.now())
            self._facts["bearer"] = bearer.token.label if bearer.token else UNKNOWN
            grant = bearer.token.grant if bearer.token else None
        if isinstance(intent, Call):
            presented = ""
        elif intent.f == "other" and intent.name in ("unknown", "method"):
            presented = self._stray()
        else:
            presented = intent.refresh_token
        if presented:
            token = self._server.authority.refresh_token(presented)
            self._facts["refresh"] = token.label if token else UNKNOWN
            self._was_live = token is not None and token.state is RefreshState.LIVE
            grant = token.grant if token else grant
        if grant is not None:
            self._facts["grant"] = grant.name
            self._facts["account"] = grant.account

    def _stray(self) -> str:
        """A refresh token of this service in a request that reaches none of its endpoints."""
        minted = self._server.authority.refresh_token
        return next((secret for secret in refresh_tokens_in(self._request) if minted(secret)), "")

    def _unjudged(self, intent: Intent | Asked) -> str:
        """Why nothing can be concluded from this request; empty for one that the judge takes into account."""
        if intent.unjudged:
            return intent.unjudged
        if intent.f == "token":
            return "a refresh token that was never minted here" if self._facts.get("refresh") == UNKNOWN else ""
        if isinstance(intent, Call) and not has_credentials(self._request):
            return "it carried neither bearer nor API key"
        if self._facts.get("bearer") != UNKNOWN or (intent.f == "other" and intent.name == "hello"):
            return ""
        return "a bearer that was never minted here"

    # Commit.

    def _commit(self, intent: Intent | Asked) -> Generator[Effect, None, Reply | None]:
        """The reply, or ``None`` if a fault has ended the exchange before the commit."""
        server, fault = self._server, self._fault
        yield Wait("request", needs=self._needs())
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
            reply = self._of_fault(fault, intent)
            self._journal_reason(reply)
        else:
            at_once = intent.f == "other" and intent.name == "unknown"
            if intent.f == "call":
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

    def _replaced(self, reply: Reply, fault: Fault, intent: Intent | Asked) -> Reply:
        """The reply of a fault that answers after the commit.

        Where it takes the place of a success, its client can't know that the service has done what was asked: the judge
        counts it among the unknown outcomes.
        """
        if not fault.answers:
            return reply
        if reply.status < 400:
            self._data["replaced"] = True
        return self._of_fault(fault, intent)

    def _of_fault(self, fault: Fault, intent: Intent | Asked) -> Reply:
        """The reply of a fault that answers in the service's place."""
        server = self._server
        assert self.op is not None
        if server.service.standard:
            return server.oauth.fault(fault)
        return server.replies.fault(self.op, fault, intent.f, server.clock.now())

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
            hold.join(self.actor, server.stopwatch() - DEBUGGED.seconds())
            try:
                while (wait := hold.poll(server.stopwatch() - DEBUGGED.seconds())) is not None:
                    yield replace(wait, needs=self._needs())
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
            yield replace(wait, needs=self._needs())
            now = server.stopwatch()
        waited = (ticket.started or 0.0) - ticket.arrived
        if waited > 0:
            facts = {name: self._facts[name] for name in ("account", "grant", "bearer") if name in self._facts}
            server.journal.note("queue", op=self.op, waited=round(waited, 6), overdue=ticket.overdue, **facts)

    def _key(self) -> str | None:
        grant, bearer = self._facts.get("grant"), self._facts.get("bearer")
        return None if grant is None else f"{grant} {bearer}"

    def _needs(self) -> float:
        """The seconds that the service will take for this request; for a call, after all that may be before it."""
        seconds = self._server.policy.latency_of(self.kind)
        return seconds * max(1, self._server.crowd) if self.kind == "call" else seconds

    def _pass(self, seconds: float, why: WaitWhy) -> Generator[Effect, None, None]:
        """Wait until ``seconds`` have passed on the stopwatch, however often the transport wakes up before."""
        read = self._server.stopwatch
        until = read() + seconds
        while (left := until - read()) > 0:
            yield Wait(why, left)

    def _answer(self, intent: Intent | Asked, op: int) -> Reply:
        """The service's decision; all its changes of state are made here, at once."""
        return answers.answer(
            answers.Turn(
                server=self._server,
                request=self._request,
                intent=intent,
                op=op,
                actor=self.actor,
                facts=self._facts,
                data=self._data,
                was_live=self._was_live,
            )
        )

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
        self._end("ok" if reply.status < 400 else "fail", status=reply.status, error=reply.error)
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
