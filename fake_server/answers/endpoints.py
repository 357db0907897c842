"""The other endpoints: authorization, revocation, introspection, registration, devices, userinfo, metadata."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from fake_server.core.clients import CODE_LIFE, DEVICE_LIFE, Code
from fake_server.hosts import is_loopback
from fake_server.protocol import claims
from fake_server.protocol.asking import GRANTS
from fake_server.protocol.oauth_replies import NO_STORE
from fake_server.protocol.wire import Reply, account_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fake_server.answers.turn import Turn
    from fake_server.core.authority import AccessToken, Grant
    from fake_server.core.clients import Client

__all__ = ["ANSWERS"]

_URI = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:[!-"$-~]*')
_MOST_KEYS = 100
_HTML = ("content-type", "text/html; charset=UTF-8")


def _authorize(turn: Turn) -> Reply:
    """RFC 6749 section 4.1.1, without the person: it redirects with a code at once.

    The account is that of ``login_hint``, else the last one that was logged in, else ``a1``.
    """
    asked = turn.asked
    client = turn.server.clients.find(asked.text("client_id")) if asked.text("client_id") else None
    if client is None:
        return _page(400, "client_id is missing or not known")
    target = asked.text("redirect_uri")
    if not _may_return(client, target):
        return _page(400, "redirect_uri is missing, no absolute URI, or not one that the client registered")
    target = target or client.facts["redirect_uris"][0]
    answer = _code_for(turn, client) or {"error": "invalid_request"}
    state = {"state": asked.text("state")} if asked.text("state") else {}
    parts = urlsplit(target)
    query = urlencode(
        [*parse_qsl(parts.query, keep_blank_values=True), *{**answer, **state, "iss": turn.issuer}.items()],
        errors="surrogatepass",
    )
    return Reply(302, (b"",), (("location", parts._replace(query=query).geturl()), *NO_STORE))


def _code_for(turn: Turn, client: Client) -> dict[str, str]:
    asked, server = turn.asked, turn.server
    scope = asked.text("scope") or server.service.scope
    method = asked.text("code_challenge_method") or "plain"
    if asked.text("response_type") != "code":
        return {"error": "unsupported_response_type" if asked.text("response_type") else "invalid_request"}
    if method not in ("S256", "plain"):
        return {"error": "invalid_request", "error_description": "code_challenge_method is S256 or plain"}
    if not server.policy.knows(scope):
        return {"error": "invalid_scope"}
    account = asked.text("login_hint") or next((g.account for g in reversed(server.authority.grants)), "a1")
    if account_of(account) != account:
        return {"error": "login_required", "error_description": "login_hint is no account's name"}
    code = Code(
        account=account,
        client=client.id,
        redirect_uri=asked.text("redirect_uri") or None,
        scope=scope,
        until=turn.now + CODE_LIFE,
        challenge=asked.text("code_challenge") or None,
        method=method,
        nonce=asked.text("nonce") or None,
        resource=next(iter(asked.words("resource")), None),
        issuer=turn.issuer,
    )
    return {"code": server.clients.authorize(code)}


def _may_return(client: Client, target: str) -> bool:
    """RFC 9700 section 4.1.3: exactly as registered, but for the port of a loopback address (RFC 8252 section 7.3)."""
    registered = client.facts.get("redirect_uris") or ()
    if not target:
        return len(registered) == 1
    if not _is_target(target):
        return False
    return not registered or any(_without_port(target) == _without_port(one) for one in registered)


def _without_port(target: str) -> str:
    parts = urlsplit(target)
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return parts._replace(netloc=parts.hostname or "").geturl()
    return target


def _page(status: int, text: str) -> Reply:
    return Reply(status, (f"<!DOCTYPE html><html><body><p>{text}</p></body></html>".encode(),), (_HTML,))


def _revoke(turn: Turn) -> Reply:
    """RFC 7009: a refresh token takes its grant with it, an access token goes alone; 200 in any case (section 2.2)."""
    server, secret = turn.server, turn.asked.text("token")
    refresh = server.authority.refresh_token(secret)
    access = server.authority.bearer(secret, turn.now).token
    if refresh is not None and _its_own(turn, refresh.grant):
        server.revoke_grants([refresh.grant])
    elif access is not None and _its_own(turn, access.grant):
        server.revoke_access(access)
    return Reply(200, (b"",), NO_STORE)


def _its_own(turn: Turn, grant: Grant) -> bool:
    client = turn.asked.client
    return client is None or grant.origin.client in (None, client.id)


def _introspect(turn: Turn) -> Reply:
    """RFC 7662: what a token is worth now; of a dead or unknown one, only that it is not active."""
    server, secret, now = turn.server, turn.asked.text("token"), turn.now
    refresh = server.authority.refresh_token(secret)
    access = server.authority.bearer(secret, now)
    if refresh is not None and server.authority.accepts(refresh, now):
        return turn.replies.json(
            _facts_of(turn, refresh.grant, refresh.grant.deadline, "refresh_token"), 200, *NO_STORE
        )
    if access.token is not None and access.state == "live":
        facts = _facts_of(turn, access.token.grant, access.token.expires_at, "Bearer")
        return turn.replies.json(facts, 200, *NO_STORE)
    return turn.replies.json({"active": False}, 200, *NO_STORE)


def _facts_of(turn: Turn, grant: Grant, until: float, kind: str) -> dict[str, Any]:
    client = grant.origin.client or turn.server.clients.of_account(grant.account).id
    return {
        "active": True,
        "scope": grant.scope,
        "client_id": client,
        "username": grant.account,
        "sub": grant.account,
        "token_type": kind,
        "exp": int(until),
        "iss": grant.origin.issuer or turn.issuer,
    }


def _register(turn: Turn) -> Reply:
    """RFC 7591 section 3."""
    service, facts = turn.server.service, turn.asked.fields
    if turn.asked.encoding != "json":
        return turn.replies.error("invalid_client_metadata", "the metadata are a JSON object", 400, *NO_STORE)
    accepted = [method for method in service.client_auth if method != "none"]
    usual = "client_secret_basic" if "client_secret_basic" in accepted else (*accepted, "none")[0]
    method = facts.get("token_endpoint_auth_method", usual)
    if method not in service.client_auth:
        text = f"token_endpoint_auth_method: this service accepts {', '.join(service.client_auth)}"
        return turn.replies.error("invalid_client_metadata", text, 400, *NO_STORE)
    wanted = facts.get("grant_types", ["authorization_code"])
    grants = [grant for grant in GRANTS if isinstance(wanted, list) and grant in wanted]  # RFC 7591 section 2: may drop
    if not grants:
        text = f"grant_types: this service knows {', '.join(GRANTS)}"
        return turn.replies.error("invalid_client_metadata", text, 400, *NO_STORE)
    targets = facts.get("redirect_uris", [])
    if not _are_targets(targets) or ("authorization_code" in grants and not targets):
        text = "redirect_uris: a list of absolute URIs without fragments"
        return turn.replies.error("invalid_redirect_uri", text, 400, *NO_STORE)
    if not _are_keys(facts.get("jwks", {"keys": []})):
        text = f"jwks: an object with a list `keys`, of {_MOST_KEYS} at most"
        return turn.replies.error("invalid_client_metadata", text, 400, *NO_STORE)
    known = {
        **{name: value for name, value in facts.items() if name not in _OURS},
        "redirect_uris": targets,
        "grant_types": grants,
        "response_types": facts.get("response_types", ["code"]),
        "token_endpoint_auth_method": method,
        "scope": facts.get("scope", service.scope),
    }
    client = turn.server.clients.register(known, confidential=method.startswith("client_secret"))
    secret = {} if client.secret is None else {"client_secret": client.secret, "client_secret_expires_at": 0}
    body = {"client_id": client.id, "client_id_issued_at": int(turn.now), **secret, **known}
    return turn.replies.json(body, 201, *NO_STORE)


_OURS = ("client_id", "client_secret", "client_id_issued_at", "client_secret_expires_at")


def _are_targets(targets: object) -> bool:
    return isinstance(targets, list) and all(map(_is_target, targets))


def _is_target(target: object) -> bool:
    """Whether it is an absolute URI without a fragment (RFC 6749 section 3.1.2): what can stand in ``Location``."""
    if not isinstance(target, str) or not _URI.fullmatch(target):
        return False
    try:
        urlsplit(target)
    except ValueError:
        return False
    return True


def _are_keys(keys: object) -> bool:
    """Whether it is a JSON Web Key Set (RFC 7517 section 5), of so few keys that all can be tried."""
    found = keys.get("keys") if isinstance(keys, dict) else None
    return isinstance(found, list) and len(found) <= _MOST_KEYS


def _device(turn: Turn) -> Reply:
    """RFC 8628 section 3.2."""
    server, asked, place = turn.server, turn.asked, turn.place
    scope = asked.text("scope") or server.service.scope
    if not server.policy.knows(scope):
        return turn.replies.error("invalid_scope", "", 400, *NO_STORE)
    client = "" if asked.client is None else asked.client.id
    secret, device = server.clients.begin(client, scope, turn.now, turn.issuer)
    assert server.routes.verify is not None
    where = place.url(server.routes.verify)
    body = {
        "device_code": secret,
        "user_code": device.user_code,
        "verification_uri": where,
        "verification_uri_complete": f"{where}?{urlencode({'user_code': device.user_code})}",
        "expires_in": int(DEVICE_LIFE),
        "interval": int(device.interval),
    }
    return turn.replies.json(body, 200, *NO_STORE)


def _verify(turn: Turn) -> Reply:
    """A person who looks at a device's address: with its user code, that approves it (``action=deny``: refuses it)."""
    device = turn.server.clients.asked_by(turn.asked.text("user_code"))
    if device is None or turn.now >= device.until:
        return _page(400 if turn.asked.text("user_code") else 200, "Enter the code that the device shows: ?user_code=")
    if turn.asked.text("action") == "deny":
        device.denied = True
        return _page(200, "The device was refused.")
    hint = turn.asked.text("login_hint")
    last = next((grant.account for grant in reversed(turn.server.authority.grants)), "a1")
    device.account = hint if account_of(hint) == hint else last
    return _page(200, "The device is connected.")


def userinfo(turn: Turn, token: AccessToken) -> Reply:
    """OpenID Connect Core section 5.3."""
    account = token.grant.account
    return turn.replies.json({"sub": account, **claims.person(account, token.grant.scope)})


def _metadata(turn: Turn) -> Reply:
    replies, name = turn.replies, turn.asked.name
    if name == "keys":
        return replies.keys()
    if name == "resource-metadata":
        return replies.resource_metadata(turn.request, turn.asked.route.rest, turn.place)
    return replies.server_metadata(turn.place, openid=name == "openid-metadata")


ANSWERS: Mapping[str, Any] = {
    "authorize": _authorize,
    "revoke": _revoke,
    "introspect": _introspect,
    "register": _register,
    "device": _device,
    "verify": _verify,
    "keys": _metadata,
    "server-metadata": _metadata,
    "openid-metadata": _metadata,
    "resource-metadata": _metadata,
}
"""The answer of each endpoint to a request that is in order; ``token`` and those that need a bearer are elsewhere."""
