"""What signed tokens say (RFC 9068 for access tokens, OpenID Connect Core section 2 for ID tokens)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from fake_server.jose import sign
from fake_server.protocol.routes import routes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_server.core.authority import Grant
    from fake_server.service import Service

__all__ = ["id_token", "person", "signer"]


def signer(service: Service, namespace: str) -> Callable[[Grant, int, float, float], str]:
    """Mints access tokens that are JWTs, unmistakably fake by their ``jti``."""
    routes = routes_of(service)
    home = routes.home.url(routes.issuer)

    def mint(grant: Grant, number: int, now: float, life: float) -> str:
        digest = hashlib.blake2b(f"{namespace} {number}".encode(), digest_size=12).hexdigest()
        issuer = grant.origin.issuer or home
        return sign(
            {
                "iss": issuer,
                "sub": grant.account,
                "aud": grant.origin.audience or issuer,
                "client_id": grant.origin.client or f"client-{grant.account}",
                "scope": grant.scope,
                "iat": int(now),
                "exp": int(now + life),
                "jti": f"FAKE-{number}-{digest}",
            },
            "at+jwt",
        )

    return mint


def id_token(grant: Grant, now: float, life: float, *, issuer: str, audience: str) -> str:
    """Who has logged in, for the client ``audience``."""
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": grant.account,
        "aud": audience,
        "iat": int(now),
        "exp": int(now + max(life, 300)),  # that of an expired login must still pass for one
        "jti": f"FAKE-{grant.name}",
        **({} if grant.origin.nonce is None else {"nonce": grant.origin.nonce}),
        **person(grant.account, grant.scope),
    }
    return sign(claims)


def person(account: str, scope: str) -> dict[str, Any]:
    """The claims about a person that the scopes ask for (OpenID Connect Core section 5.4)."""
    words = scope.split()
    facts: dict[str, Any] = {}
    if "profile" in words:
        facts |= {"name": account, "preferred_username": account}
    if "email" in words:
        facts |= {"email": f"{account}@fake.invalid", "email_verified": True}
    return facts
