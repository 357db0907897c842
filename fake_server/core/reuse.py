"""What each policy answers to a refresh token that was used before, as one table.

The table is the specification, as that of :mod:`fake_server.core.states` is: a test plays every situation under every
policy, and the table in ``docs/policies.md`` is made of it. Sources: RFC 9700 section 4.14.2, RFC 6819 section 5.2.2.3,
the documentation of Auth0, Okta, Keycloak and Ory Hydra.
"""

from __future__ import annotations

from fake_server.policy import Policy

__all__ = ["POLICIES", "REACTIONS", "SITUATIONS", "table"]

SITUATIONS: dict[str, str] = {
    "at-once": "a request that had arrived when another one spent its token",
    "spent": "a spent token, 1 s later",
    "again": "the same once more, at 2 s",
    "late": "a spent token, 31 s later",
    "ancestor": "a spent token whose successor is spent, too",
    "unknown": "a token that was never minted here",
}
"""The situations, by the names that stand at the head of the table."""

POLICIES: dict[str, Policy] = {
    "anthropic": Policy.preset("anthropic"),
    "anthropic-harsh": Policy.preset("anthropic-harsh"),
    "rfc9700-floor": Policy.preset("rfc9700-floor"),
    "grace(30)": Policy.grace(30),
    "grace(30, 'idempotent')": Policy.grace(30, "idempotent"),
    "grace(30, 'previous-only')": Policy.grace(30, "previous-only"),
    "grace(30, count=1)": Policy.grace(30, count=1),
    "keycloak": Policy.preset("keycloak"),
    "keycloak(max_reuse=1)": Policy.keycloak(1),
    "no-rotation": Policy.preset("no-rotation"),
    "gateway": Policy.preset("gateway"),
    "oauth": Policy.preset("oauth"),
    "but(at_once='retry')": Policy(name="at-once", at_once="retry"),
}
"""The policies of the table: each preset, and the variants that differ from it here."""

_REFUSED = "400 invalid_grant"
_FAMILY = f"{_REFUSED}; all tokens die"


def _reactions(*replies: str, unknown: str = _REFUSED) -> dict[str, str]:
    """One row: a reply for all situations with a spent token, or one for each."""
    known = [name for name in SITUATIONS if name != "unknown"]
    return {**dict(zip(known, replies * (len(known) // len(replies)), strict=True)), "unknown": unknown}


REACTIONS: dict[str, dict[str, str]] = {
    "anthropic": _reactions(_REFUSED),
    "anthropic-harsh": _reactions(_FAMILY),
    "rfc9700-floor": _reactions(f"{_REFUSED}; refresh token dies"),
    "grace(30)": _reactions("new pair", "new pair", "new pair", _FAMILY, "new pair"),
    "grace(30, 'idempotent')": _reactions("same pair", "same pair", "same pair", _FAMILY, "same pair"),
    "grace(30, 'previous-only')": _reactions("new pair", "new pair", "new pair", _FAMILY, _FAMILY),
    "grace(30, count=1)": _reactions("new pair", "new pair", _FAMILY, _FAMILY, "new pair"),
    "keycloak": _reactions(_FAMILY),
    "keycloak(max_reuse=1)": _reactions("new pair", "new pair", _FAMILY, "new pair", _FAMILY),
    "no-rotation": _reactions("new access token"),
    "gateway": _reactions("401 invalid_grant", unknown="401 invalid_grant"),
    "oauth": _reactions(_REFUSED),
    "but(at_once='retry')": _reactions("400 invalid_request", _REFUSED, _REFUSED, _REFUSED, _REFUSED),
}
"""The reply, and what of the login is dead afterwards, by policy and situation."""


def table() -> str:
    """The table in Markdown."""
    lines = ["| policy | " + " | ".join(SITUATIONS) + " |", "|---" * (len(SITUATIONS) + 1) + "|"]
    for name, reactions in REACTIONS.items():
        lines.append(f"| `{name}` | " + " | ".join(reactions[situation] for situation in SITUATIONS) + " |")
    return "\n".join(lines) + "\n"
