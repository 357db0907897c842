"""The token endpoint: authorization codes, refresh tokens, devices, clients for themselves (RFC 6749, 7636, 8628)."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from fake_server.core.authority import Origin
from fake_server.core.clients import Code
from fake_server.core.states import Outcome
from fake_server.protocol.asking import DEVICE_GRANT
from fake_server.protocol.oauth_replies import NO_STORE
from fake_server.protocol.replies import AT_ONCE

if TYPE_CHECKING:
    from fake_server.answers.turn import Turn
    from fake_server.core.authority import AccessToken, Grant
    from fake_server.protocol.wire import Reply

__all__ = ["answer_token"]

_SUCCESS = (Outcome.ROTATED, Outcome.KEPT, Outcome.REPLAYED)
_DEAD = {
    "expired": "The refresh token expired",
    "revoked": "The refresh token was revoked",
    "spent": "The refresh token was used before",
}


def answer_token(turn: Turn) -> Reply:
    """The reply to a token request of an authenticated client, whose grant type is known."""
    return {
        "refresh_token": _refresh,
        "authorization_code": _code,
        "client_credentials": _credentials,
        DEVICE_GRANT: _device,
    }[turn.asked.grant_type](turn)


def _refresh(turn: Turn) -> Reply:
    server, asked = turn.server, turn.asked
    token = server.authority.refresh_token(asked.refresh_token)
    wanted = asked.text("scope") or None
    if not server.policy.knows(wanted) or (token is not None and _exceeds(wanted, token.grant.scope)):
        return turn.replies.error("invalid_scope", "a refresh can't widen the scope", 400, *NO_STORE)
    if token is not None and not _is_its_client(turn, token.grant):
        return turn.replies.error("invalid_grant", "The refresh token was issued to another client", 400, *NO_STORE)
    life = server.policy.expires_in
    done = server.redeem(asked.refresh_token, turn.op, turn.facts, expires_in=life, was_live=turn.was_live)
    if done.outcome is Outcome.RETRY:
        return turn.replies.error("invalid_request", AT_ONCE, 400, *NO_STORE)
    if done.outcome not in _SUCCESS or done.access is None or done.token is None:
        text = _DEAD.get(done.reason, "The refresh token is spent or not known")
        return turn.replies.error("invalid_grant", text, 400, *NO_STORE)
    refresh = None if done.refresh is None else done.refresh.secret
    if done.outcome is Outcome.REPLAYED:  # an idempotent replay returns a pair issued before
        life = max(0, int(round(done.access.expires_at - turn.now, 6)))
    return issued(turn, done.access, refresh, wanted or done.token.grant.scope, life)


def _exceeds(wanted: str | None, granted: str) -> bool:
    return wanted is not None and not set(wanted.split()) <= set(granted.split())


def _is_its_client(turn: Turn, grant: Grant) -> bool:
    """RFC 6749 section 6: a refresh token belongs to the client to which it was issued, where that is known."""
    client = turn.asked.client
    return client is None or grant.origin.client in (None, client.id)


def _code(turn: Turn) -> Reply:
    asked, clients = turn.asked, turn.server.clients
    code = clients.codes.get(asked.text("code"))
    why = "The authorization code is not known" if code is None else _refuses(turn, code)
    if code is None or why:
        return turn.replies.error("invalid_grant", why, 400, *NO_STORE)
    code.used = True
    origin = Origin(client=code.client, issuer=code.issuer, nonce=code.nonce, audience=code.resource)
    return _login(turn, code.account, code.scope, origin)


def _refuses(turn: Turn, code: Code) -> str:
    """Why a code is refused (RFC 6749 section 4.1.3, RFC 7636 section 4.6)."""
    asked = turn.asked
    if code.used:
        return "The authorization code was used before"
    if turn.now >= code.until:
        return "The authorization code expired"
    if (asked.client.id if asked.client else code.client) != code.client:
        return "The authorization code was issued to another client"
    if code.redirect_uri is not None and asked.text("redirect_uri") != code.redirect_uri:
        return "redirect_uri is not that of the authorization request"
    verifier = asked.text("code_verifier")
    if code.challenge is None:  # RFC 9700 section 2.1.1: else PKCE could be stripped from a request
        return "The authorization request had no code_challenge" if verifier else ""
    made = _s256(verifier) if code.method == "S256" else verifier
    return "" if made == code.challenge else "code_verifier does not fit the code_challenge"


def _s256(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode(errors="replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _device(turn: Turn) -> Reply:
    secret = turn.asked.text("device_code")
    device = turn.server.clients.devices.get(secret)
    if device is None or (turn.asked.client.id if turn.asked.client else device.client) != device.client:
        return turn.replies.error("invalid_grant", "The device code is not known", 400, *NO_STORE)
    if error := device.poll(turn.now):
        return turn.replies.error(error, "", 400, *NO_STORE)
    del turn.server.clients.devices[secret]
    assert device.account is not None
    return _login(turn, device.account, device.scope, Origin(client=device.client or None, issuer=device.issuer))


def _credentials(turn: Turn) -> Reply:
    """RFC 6749 section 4.4: an access token for the client itself; there is no refresh token to go with it."""
    server, client = turn.server, turn.asked.client
    assert client is not None
    scope = turn.asked.text("scope") or server.service.scope
    if not server.policy.knows(scope):
        return turn.replies.error("invalid_scope", "", 400, *NO_STORE)
    life = server.policy.expires_in
    grant = server.grant(
        client.id,
        expires_in=life,
        setup_token=True,
        scope=scope,
        actor=turn.actor,
        op=turn.op,
        origin=Origin(client=client.id),
    )
    turn.logged_in(grant)
    return issued(turn, grant.access[0], None, grant.scope, life)


def _login(turn: Turn, account: str, scope: str, origin: Origin) -> Reply:
    server = turn.server
    grant = server.grant(account, scope=scope, actor=turn.actor, op=turn.op, origin=origin)
    turn.logged_in(grant)
    return issued(turn, grant.access[0], grant.refresh[0].secret, grant.scope, server.policy.expires_in)


def issued(turn: Turn, access: AccessToken, refresh: str | None, scope: str, life: float) -> Reply:
    """A successful reply of the token endpoint (RFC 6749 section 5.1)."""
    issuer = access.grant.origin.issuer or turn.issuer
    body: dict[str, Any] = turn.server.token_reply(access, refresh, scope=scope, life=life, issuer=issuer)
    return turn.replies.json(body, 200, *NO_STORE)
