"""How a token service behaves, as one frozen value.

The defaults are those of the preset ``anthropic``. Whether the real service revokes anything after a reuse, and
whether it serializes by bearer or by account, is not proven in public; so each is a knob, and a preset is a name for
a set of knobs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, Self

from fake_server.secrecy import discreet_class, is_name, shown, told

__all__ = ["PRESETS", "SCOPE", "SETUP_LIFE", "SETUP_SCOPE", "GraceMode", "Policy"]

SCOPE = "user:inference user:profile user:sessions:claude_code user:mcp_servers user:file_upload"
SETUP_SCOPE = "user:inference"
SETUP_LIFE = 31536000.0
"""Life of a setup-token's access token: one year, in seconds."""

GraceMode = Literal["sibling", "idempotent", "previous-only"]
Reuse = Literal["refuse", "revoke-successor", "revoke-family"]
Dialect = Literal["json", "gateway"]
Key = Literal["bearer", "account"]


@discreet_class
@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One token service's rules. Make variants with :meth:`but`.

    Every policy accepts JSON and form bodies; ``dialect`` shapes replies only.
    """

    name: str = "anthropic"
    rotate: bool = True
    """A refresh token is spent by its use, and a new one comes with the reply (RFC 9700 section 4.14.2)."""
    reuse: Reuse = "refuse"
    """What else dies when a spent token is presented: nothing, the active refresh token (the floor of RFC 9700), or
    the whole family, access tokens included (RFC 6819 section 5.2.2.3)."""
    grace_seconds: float = 0.0
    """How long after its first use a spent refresh token is still accepted."""
    grace_mode: GraceMode = "sibling"
    """``sibling``: each replay mints one more pair (Ory Hydra); ``idempotent``: the same successor pair comes again;
    ``previous-only``: only the immediately previous token is accepted, each time for a new pair (Auth0)."""
    grace_count: int | None = None
    """How many replays a token is good for inside its window; ``None``: any number."""
    dialect: Dialect = "json"
    """``gateway`` answers a dead refresh token with 401 and the bare ``{"error":"invalid_grant"}``."""
    expires_in: float = 28800
    """Life of an access token, in seconds."""
    refresh_expires_in: float = 2592000
    """Seconds from the login to the refresh deadline, which does not slide on rotation."""
    scopes: frozenset[str] | None = None
    """The scopes that the service knows: a token request for another one is answered ``invalid_scope``, and changes
    nothing. ``None``: any."""
    key: Key = "bearer"
    """What calls are serialized by."""
    slots: int | None = 1
    """How many calls of one key are served at a time; ``None``: any number."""
    serialize: float | None = None
    """``None``: the next call is served when the body of the one before has ended. A number: that many seconds after
    the one before was started."""
    queue_limit: float = 10.0
    """A wait in the gate ends after so many seconds, served or not (the worst delay in
    anthropics/claude-code#54999)."""
    latency: float | Mapping[str, float] = field(default=0.0)
    """Seconds that a request takes, or ``{"token": …, "call": …}``."""

    def __post_init__(self) -> None:
        if not isinstance(self.rotate, bool):
            raise ValueError(f"Policy(rotate={shown(self.rotate)}): True or False")
        if not (isinstance(self.name, str) and self.name and is_name(self.name)):
            raise ValueError(f"Policy(name={shown(self.name)}): a name")
        if self.scopes is not None:
            scopes = frozenset(self.scopes) if isinstance(self.scopes, Iterable) else {self.scopes}
            if isinstance(self.scopes, str) or not all(isinstance(scope, str) and is_name(scope) for scope in scopes):
                raise ValueError(
                    f"Policy(scopes={shown(self.scopes)}): a set such as {{'user:inference'}}, or None for any"
                )
            object.__setattr__(self, "scopes", scopes)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"Policy({name}={shown(getattr(self, name))}): choose one of {', '.join(map(repr, allowed))}"
                )
        for name, least in (("slots", 1), ("grace_count", 0)):
            count = getattr(self, name)
            if count is not None and not (_is_a(Integral, count) and count >= least):
                raise ValueError(
                    f"Policy({name}={shown(count)}): a whole number, {least} or more, or None for no limit"
                )
        if isinstance(self.latency, Mapping):
            unknown = set(self.latency) - {"token", "call", "other"}
            if unknown:
                words = ", ".join(sorted(told(str(word)) for word in unknown))
                raise ValueError(f"Policy(latency=…): unknown {words}; it knows token, call and other")
            object.__setattr__(self, "latency", dict(self.latency))
        for name, seconds in self._durations():
            if not (_is_a(Real, seconds) and 0 <= seconds < math.inf):
                more = _INSTEAD.get(name, "")
                raise ValueError(f"Policy({name}={shown(seconds)}): seconds, 0 or more, and not infinite{more}")
        if not (_is_a(Real, self.grace_seconds) and self.grace_seconds >= 0):
            raise ValueError(f"Policy(grace_seconds={shown(self.grace_seconds)}): seconds, 0 or more")

    def _durations(self) -> Iterator[tuple[str, float]]:
        for name in ("expires_in", "refresh_expires_in", "queue_limit"):
            yield name, getattr(self, name)
        if self.serialize is not None:
            yield "serialize", self.serialize
        latencies = self.latency.values() if isinstance(self.latency, Mapping) else (self.latency,)
        for seconds in latencies:
            yield "latency", seconds

    def __hash__(self) -> int:
        return hash((self.name, self.reuse, self.grace_seconds, self.key, self.slots, self.serialize))

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Raises ``TypeError`` for a name that no policy has, ``ValueError`` for a value that its field can't have.
        """
        unknown = set(changes) - _FIELDS
        if unknown:
            raise TypeError(
                f"Policy has no {', '.join(map(told, sorted(unknown)))}; it has {', '.join(sorted(_FIELDS))}"
            )
        return replace(self, **changes)

    @classmethod
    def preset(cls, name: str) -> Policy:
        """The policy of that name. Raises ``ValueError`` that lists the names."""
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
        """Keycloak's ``refreshTokenMaxReuse``: the current token may be replayed so often, then the session dies."""
        window = math.inf if max_reuse else 0.0
        return cls(
            name="keycloak",
            grace_seconds=window,
            grace_mode="previous-only",
            grace_count=max_reuse,
            reuse="revoke-family",
        )

    def latency_of(self, kind: str) -> float:
        """Seconds that a request of ``kind`` takes."""
        if isinstance(self.latency, Mapping):
            return self.latency.get(kind, 0.0)
        return self.latency

    def knows(self, scope: str | None) -> bool:
        """Whether every word of a requested ``scope`` is one that the service knows."""
        return scope is None or self.scopes is None or self.scopes.issuperset(scope.split())

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from the defaults, and the name: what the history's header says."""
        changed = {name: _plain(value) for name, default in _DEFAULTS if (value := getattr(self, name)) != default}
        return {"name": self.name, **changed}


def _is_a(kind: type, value: object) -> bool:
    """Whether it is a number of that kind, which a truth value is not meant to be."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """``value`` as JSON has it."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    return "inf" if value == math.inf else value


_FIELDS = frozenset(f.name for f in fields(Policy))
_CHOICES: dict[str, tuple[str, ...]] = {
    "reuse": ("refuse", "revoke-successor", "revoke-family"),
    "grace_mode": ("sibling", "idempotent", "previous-only"),
    "dialect": ("json", "gateway"),
    "key": ("bearer", "account"),
}

_INSTEAD = {
    "serialize": ", or None to wait for the body's end",
    "latency": ", or a mapping of token, call and other to such numbers",
}
"""What else a field takes than seconds."""

_DEFAULTS = tuple((f.name, getattr(Policy(), f.name)) for f in fields(Policy))
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
    )
}
