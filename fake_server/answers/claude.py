"""What Claude's service answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_server.core.states import Outcome
from fake_server.policy import SETUP_LIFE, SETUP_SCOPE
from fake_server.protocol.replies import AT_ONCE
from fake_server.protocol.wire import Call, Malformed, Other, TokenRequest, account_of, bearer_of

if TYPE_CHECKING:
    from fake_server.answers.turn import Turn
    from fake_server.protocol.wire import Reply

__all__ = ["answer"]

_SUCCESS = (Outcome.ROTATED, Outcome.KEPT, Outcome.REPLAYED)
_OPEN_TO_ALL = ("hello", "unknown", "revoke")


def answer(turn: Turn) -> Reply:
    """The reply to a request."""
    intent: Any = turn.intent
    if isinstance(intent, Malformed):
        return turn.server.replies.oauth_error(turn.op, intent.error)
    if isinstance(intent, TokenRequest):
        return _login(turn, intent) if intent.grant_type == "authorization_code" else _refresh(turn, intent)
    return _with_bearer(turn, intent)


def _login(turn: Turn, request: TokenRequest) -> Reply:
    server, op = turn.server, turn.op
    if not server.policy.knows(request.scope):
        return server.replies.oauth_error(op, "invalid_scope")
    account = account_of(request.code)
    if account is None or request.code in server.codes:  # RFC 6749 section 4.1.2: a code is used at most once
        return server.replies.invalid_grant(op, "code", server.policy.dialect)
    server.codes.add(request.code)
    setup = request.scope == SETUP_SCOPE or (request.expires_in or 0) >= SETUP_LIFE
    life = request.expires_in or (SETUP_LIFE if setup else server.policy.expires_in)
    grant = server.grant(account, expires_in=life, setup_token=setup, scope=request.scope, actor=turn.actor, op=op)
    turn.logged_in(grant)
    refresh = None if setup else grant.refresh[0].secret
    deadline = None if setup else server.policy.refresh_expires_in
    return server.replies.token(op, grant.access[0], refresh, scope=grant.scope, life=life, deadline=deadline)


def _refresh(turn: Turn, request: TokenRequest) -> Reply:
    server, op = turn.server, turn.op
    if not server.policy.knows(request.scope):
        return server.replies.oauth_error(op, "invalid_scope")
    now = server.clock.now()
    life = request.expires_in or server.policy.expires_in
    done = server.redeem(request.refresh_token, op, turn.facts, expires_in=life, was_live=turn.was_live)
    if done.outcome is Outcome.RETRY:
        return server.replies.oauth_error(op, "invalid_request", AT_ONCE)
    if done.outcome not in _SUCCESS or done.access is None or done.token is None:
        return server.replies.invalid_grant(op, done.reason, server.policy.dialect)
    secret = None if done.refresh is None else done.refresh.secret
    if done.outcome is Outcome.REPLAYED:  # an idempotent replay returns a pair issued before
        life = max(0, int(round(done.access.expires_at - now, 6)))
    scope = request.scope or done.token.grant.scope
    deadline = server.policy.refresh_expires_in if server.policy.refresh_slides else None
    return server.replies.token(op, done.access, secret, scope=scope, life=life, deadline=deadline)


def _with_bearer(turn: Turn, intent: Call | Other) -> Reply:
    """The reply to a request that presents a bearer (RFC 6750 section 3.1 for the errors)."""
    server, op = turn.server, turn.op
    replies, now = server.replies, server.clock.now()
    if isinstance(intent, Other) and intent.name in _OPEN_TO_ALL:
        return _open_to_all(turn, intent, now)
    secret = bearer_of(turn.request)
    bearer = server.authority.bearer(secret or "", now)
    if bearer.token is None or bearer.state != "live":
        turn.data["reason"] = bearer.state if secret else "missing"
        return replies.bad_bearer(op, bearer.state, presented=secret is not None)
    needed = "user:profile" if isinstance(intent, Other) and intent.name in ("profile", "usage") else "user:inference"
    if needed not in bearer.token.grant.scope.split():
        return replies.missing_scope(op, needed)
    if isinstance(intent, Call):
        return replies.message(op, intent, now)
    return replies.other(op, intent.name, bearer.token.grant, now)


def _open_to_all(turn: Turn, intent: Other, now: float) -> Reply:
    server = turn.server
    if intent.name == "revoke" and (token := server.authority.refresh_token(intent.refresh_token)):
        server.revoke_grants([token.grant])  # RFC 7009 section 2.2: 200, known token or not
    return server.replies.other(turn.op, intent.name, None, now)
