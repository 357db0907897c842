"""The behaviour of a token service, as one frozen value.

The defaults are those of the preset ``anthropic``. Whether the real service revokes anything after a reuse, and
whether it serializes by bearer or by account, is not publicly proven; so each is a knob, and a preset is a name for
a set of knobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, Self

from fake_server.checked import Refused, check_fields, one_of, plain_name, with_changes
from fake_server.limits import count_refusal, plain, seconds_refusal
from fake_server.secrecy import brief, discreet_class, is_name, shown

__all__ = ["PRESETS", "SCOPE", "SETUP_LIFE", "SETUP_SCOPE", "GraceMode", "Policy", "settings_of"]

SCOPE = "user:inference user:profile user:sessions:claude_code user:mcp_servers user:file_upload"
SETUP_SCOPE = "user:inference"
SETUP_LIFE = 31536000.0
"""Life of a setup-token's access token: one year, in seconds."""

GraceMode = Literal["sibling", "idempotent", "previous-only"]
Reuse = Literal["refuse", "revoke-successor", "revoke-family"]
Dialect = Literal["json", "gateway"]
Key = Literal["bearer", "account"]
AtOnce = Literal["reuse", "retry"]
Window = Literal["five_hour", "seven_day"]


@discreet_class
@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One token service's rules. Make variants with :meth:`but`.

    Every policy accepts JSON and form bodies; ``dialect`` shapes replies only.
    """

    name: str = "anthropic"
    rotate: bool = True
    """Whether a refresh token is spent by its use, and the reply brings a new one (RFC 9700 section 4.14.2)."""
    repeat_refresh: bool = False
    """Without rotation, whether the reply repeats the refresh token that was presented, or leaves it out."""
    revoke_access: bool = False
    """Whether a refresh ends the access tokens that the grant had until then, or they live on until they expire."""
    reuse: Reuse = "refuse"
    """What is revoked when a spent token is presented: nothing, the active refresh token (the minimum of RFC 9700), or
    the whole family, access tokens included (RFC 6819 section 5.2.2.3)."""
    at_once: AtOnce = "reuse"
    """What becomes of a token request that arrived before another one spent its refresh token: ``reuse``, as if it had
    come after that; ``retry``: it is refused with ``invalid_request``, which asks to try again, and changes nothing (a
    conflict of two transactions, as in Ory Hydra)."""
    grace_seconds: float = 0.0
    """Seconds after its first use for which a spent refresh token is still accepted."""
    grace_mode: GraceMode = "sibling"
    """``sibling``: each replay mints another pair (Ory Hydra); ``idempotent``: each returns the same successor pair;
    ``previous-only``: only the immediately previous token is accepted, each time for a new pair (Auth0)."""
    grace_count: int | None = None
    """Replays of a token that are accepted within its grace period; ``None``: any number."""
    dialect: Dialect = "json"
    """``gateway`` answers a dead refresh token with 401 and the bare ``{"error":"invalid_grant"}``."""
    expires_in: float = 28800
    """Life of an access token, in seconds."""
    refresh_expires_in: float = 2592000
    """Seconds from the login to the refresh deadline."""
    refresh_slides: bool = False
    """Whether each refresh moves the deadline, to ``refresh_expires_in`` seconds from then: a grant dies of idleness
    only (RFC 9700 section 4.14.2), and each reply says how long it has. Else the deadline of the login stays."""
    scopes: frozenset[str] | None = None
    """The scopes that the service knows: a token request for any other is refused with ``invalid_scope``, and changes
    nothing. ``None``: any scope."""
    key: Key = "bearer"
    """The key of a call's queue: calls with the same key are serialized."""
    slots: int | None = 1
    """Calls of one key that are served at a time; ``None``: any number."""
    serialize: float | None = None
    """``None``: the next call is served when the body of the previous one has ended. A number: that many seconds after
    the previous one was started."""
    queue_limit: float = 10.0
    """Seconds after which a waiting call is served in any case (the longest in anthropics/claude-code#54999)."""
    burst: int | None = None
    """Calls of one account that are let in within ``burst_seconds``: further ones are answered at once with a 429
    without usage headers, and are not counted (anthropics/claude-code#53922). ``None``: any number."""
    burst_seconds: float = 10.0
    quota: int | None = None
    """Calls of one account within the ``quota_window`` that its first one began: further ones are answered at once with
    a 429 that says when it ends. ``None``: any number."""
    quota_window: Window = "five_hour"
    fan_out: int | None = None
    """Calls of one account that may be open at once: further ones are answered at once with a 400 that speaks of the
    credit balance, as a limit of concurrency was seen to be masked. ``None``: any number."""
    latency: float | Mapping[str, float] = field(default=0.0)
    """Seconds that a request takes, or ``{"token": …, "call": …}`` by kind."""

    def __post_init__(self) -> None:
        check_fields(self, _CHECKS)
        if self.rotate and self.repeat_refresh:
            raise ValueError(
                "Policy(repeat_refresh=True): needs rotate=False; with rotation each reply brings a new one"
            )
        if not self.rotate and self.at_once == "retry":
            raise ValueError("Policy(at_once='retry'): needs rotate=True; without rotation two at once don't collide")

    def __hash__(self) -> int:
        return hash((self.name, self.reuse, self.grace_seconds, self.key, self.slots, self.serialize))

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Raises ``TypeError`` for an unknown field, ``ValueError`` for a value that is invalid for its field.
        """
        return with_changes(self, changes)

    @classmethod
    def preset(cls, name: str) -> Policy:
        """The preset ``name``. Raises ``ValueError`` that lists the presets."""
        try:
            return PRESETS[name]
        except KeyError:
            raise ValueError(f"no policy is named {shown(name)}; choose one of {', '.join(PRESETS)}") from None

    @classmethod
    def grace(cls, seconds: float, mode: GraceMode = "sibling", count: int | None = None) -> Policy:
        """A service that tolerates a replay for ``seconds`` after the first use, then revokes the family.

        As Okta's and Ory Hydra's grace periods (``sibling``), Auth0's reuse interval (``previous-only``) and servers
        that answer a replay with the same pair (``idempotent``).
        """
        return cls(name="grace", grace_seconds=seconds, grace_mode=mode, grace_count=count, reuse="revoke-family")

    @classmethod
    def keycloak(cls, max_reuse: int = 0) -> Policy:
        """Keycloak's ``refreshTokenMaxReuse``: after so many replays of the current token, the session is revoked."""
        window = math.inf if max_reuse else 0.0
        return cls(
            name="keycloak",
            grace_seconds=window,
            grace_mode="previous-only",
            grace_count=max_reuse,
            reuse="revoke-family",
        )

    @property
    def limits_calls(self) -> bool:
        """Whether calls are refused for their number."""
        return not (self.burst is None and self.quota is None and self.fan_out is None)

    def latency_of(self, kind: str) -> float:
        """Seconds that a request of ``kind`` takes."""
        if isinstance(self.latency, Mapping):
            return self.latency.get(kind, 0.0)
        return self.latency

    def knows(self, scope: str | None) -> bool:
        """Whether every word of a requested ``scope`` is one that the service knows."""
        return scope is None or self.scopes is None or self.scopes.issuperset(scope.split())

    def to_dict(self) -> dict[str, Any]:
        """The policy as a JSON object: its name, and the fields that differ from the defaults.

        The header of a history and a replay token use this form; :meth:`from_dict` reads it.
        """
        values = _values(self)
        if values == _DEFAULTS:  # compared at once: the header of each run of a search contains the policy
            return {"name": self.name}
        pairs = zip(_CHECKS, values, _DEFAULTS, strict=True)
        changed = {name: _plain(value) for name, value, default in pairs if value != default}
        if set(changed) <= {"name"} and PRESETS.get(self.name, self) != self:
            changed = {"rotate": self.rotate}  # a name alone would be read as the preset of that name
        return {"name": self.name, **changed}

    @classmethod
    def from_dict(cls, value: str | Mapping[str, Any]) -> Policy:
        """The policy that :meth:`to_dict` has written; the name of a preset alone is that preset.

        Raises ``TypeError`` for an unknown field, ``ValueError`` for a value that is invalid for its field.
        """
        knobs = {name: math.inf if knob == "inf" else knob for name, knob in settings_of(value).items()}
        return cls().but(**knobs)


def settings_of(value: str | Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a policy's JSON form; for a name alone, those of that preset. Unknown settings are kept."""
    settings = {"name": value} if isinstance(value, str) else dict(value)
    preset = PRESETS.get(settings["name"]) if set(settings) == {"name"} else None
    return settings if preset is None else preset.to_dict()


def _plain(value: Any) -> Any:
    """``value`` in a form that JSON can hold."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    return "inf" if value == math.inf else value


# Checks of fields: each returns the value in the form in which it is stored.


def _truth(value: Any) -> Any:
    if not isinstance(value, bool):
        raise Refused("must be True or False")
    return value


def _scopes(value: Any) -> Any:
    if value is None:
        return None
    scopes = frozenset(value) if isinstance(value, Iterable) else {value}
    if isinstance(value, str) or not all(isinstance(scope, str) and is_name(scope) for scope in scopes):
        raise Refused("must be a set such as {'user:inference'}, or None for any")
    return scopes


def _count_from(least: int) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is None:
            return None
        if why := count_refusal(value, least):
            raise Refused(f"{why}, or None for no limit")
        return int(value)

    return check


def _seconds(value: Any, instead: str = "") -> Any:
    if why := seconds_refusal(value):
        raise Refused(why + instead)
    return plain(value)


def _seconds_or_infinite(value: Any) -> Any:
    if isinstance(value, float) and value == math.inf:
        return value
    if why := seconds_refusal(value):
        raise Refused(why.removesuffix(", and not infinite"))
    return plain(value)


def _serialize(value: Any) -> Any:
    return None if value is None else _seconds(value, ", or None to wait for the body's end")


def _latency(value: Any) -> Any:
    instead = ", or a mapping of token, call and other to such numbers"
    if not isinstance(value, Mapping):
        return _seconds(value, instead)
    if unknown := set(value) - {"token", "call", "other"}:
        words = brief(*sorted(map(str, unknown)))
        raise Refused(f"unknown {words}; it knows token, call and other", inside=True)
    return {kind: _seconds(seconds, instead) for kind, seconds in value.items()}


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": plain_name,
    "rotate": _truth,
    "repeat_refresh": _truth,
    "revoke_access": _truth,
    "reuse": one_of("refuse", "revoke-successor", "revoke-family"),
    "at_once": one_of("reuse", "retry"),
    "grace_seconds": _seconds_or_infinite,
    "grace_mode": one_of("sibling", "idempotent", "previous-only"),
    "grace_count": _count_from(0),
    "dialect": one_of("json", "gateway"),
    "expires_in": _seconds,
    "refresh_expires_in": _seconds,
    "refresh_slides": _truth,
    "scopes": _scopes,
    "key": one_of("bearer", "account"),
    "slots": _count_from(1),
    "serialize": _serialize,
    "queue_limit": _seconds,
    "burst": _count_from(0),
    "burst_seconds": _seconds,
    "quota": _count_from(0),
    "quota_window": one_of("five_hour", "seven_day"),
    "fan_out": _count_from(1),
    "latency": _latency,
}

_values = attrgetter(*_CHECKS)
_DEFAULTS = _values(Policy())
PRESETS: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(),
        Policy(name="anthropic-harsh", reuse="revoke-family"),
        Policy(name="rfc9700-floor", reuse="revoke-successor"),
        Policy.grace(30),
        Policy.keycloak(),
        Policy(name="no-rotation", rotate=False),
        Policy(name="gateway", dialect="gateway"),
        Policy(name="oauth", slots=None),
    )
}
