"""What a request to a service that speaks the standards is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_server.answers.endpoints import ANSWERS, userinfo
from fake_server.answers.resources import answer_call
from fake_server.answers.tokens import answer_token
from fake_server.answers.turn import Turn
from fake_server.protocol.wire import Reply, bearer_of

if TYPE_CHECKING:
    from fake_server.core.authority import AccessToken

__all__ = ["answer"]


def answer(turn: Turn) -> Reply:
    """The service's decision; all its changes of state are made here, at once."""
    asked = turn.asked
    if asked.refusal is not None:
        return turn.replies.refused(asked.refusal)
    if asked.name == "token":
        return answer_token(turn)
    if asked.name not in ("call", "userinfo"):
        reply: Reply = ANSWERS[asked.name](turn)
        return reply
    needed = asked.route.resource.scopes if asked.route.resource else ("openid",)
    token = _bearer(turn, needed)
    if isinstance(token, Reply):
        return token
    return answer_call(turn, token) if asked.name == "call" else userinfo(turn, token)


def _bearer(turn: Turn, needed: tuple[str, ...]) -> AccessToken | Reply:
    """The live access token of the request; or what it gets without (RFC 6750 section 3)."""
    resource, secret = turn.asked.route.resource, bearer_of(turn.request)
    bearer = turn.server.authority.bearer(secret or "", turn.now)
    if bearer.token is None or bearer.state != "live":
        turn.data["reason"] = bearer.state if secret else "missing"
        return turn.replies.bad_bearer(turn.request, resource, bearer.state, presented=secret is not None)
    if not set(needed) <= set(bearer.token.grant.scope.split()):
        return turn.replies.insufficient_scope(turn.request, resource, " ".join(needed))
    return bearer.token
