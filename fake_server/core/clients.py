"""OAuth clients, and what they were promised: authorization codes and device codes. Sans-IO; the time is passed in.

A client of an account, one that registered, and one that the service's value names are known with their secrets. Any
other is a public client, unless the service names its clients. Not thread-safe: the server holds the lock.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CODE_LIFE", "DEVICE_LIFE", "Client", "Clients", "Code", "Device"]

CODE_LIFE = 600.0
"""Seconds for which an authorization code is good: the most that RFC 6749 section 4.1.2 recommends."""
DEVICE_LIFE = 1800.0
"""Seconds for which a device code is good."""
_INTERVAL = 5.0
"""Seconds that a device waits between two polls, and by which that grows if it does not (RFC 8628 section 3.5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client. ``secret``: ``None`` for a public one; ``confidential``: it must authenticate wherever it can.

    ``facts`` is its metadata as it registered (RFC 7591 section 2).
    """

    id: str
    secret: str | None = field(default=None, repr=False)
    confidential: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(slots=True, kw_only=True)
class Code:
    """One authorization code, and the request that it answers (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""

    account: str
    client: str
    redirect_uri: str | None
    scope: str
    until: float
    challenge: str | None = None
    method: str = "plain"
    nonce: str | None = None
    resource: str | None = None
    issuer: str | None = None
    used: bool = False


@dataclass(slots=True, kw_only=True)
class Device:
    """One device's request (RFC 8628 section 3.2). ``account``: who approved it; ``denied``: somebody refused it."""

    user_code: str
    client: str
    scope: str
    until: float
    issuer: str | None = None
    interval: float = _INTERVAL
    polled: float | None = None
    account: str | None = None
    denied: bool = False

    def poll(self, now: float) -> str | None:
        """The error of a poll at ``now``; ``None``: the device gets its tokens."""
        early = self.polled is not None and now < self.polled + self.interval
        self.polled = now
        if now >= self.until:
            return "expired_token"
        if self.denied:
            return "access_denied"
        if early:
            self.interval += _INTERVAL
            return "slow_down"
        return "authorization_pending" if self.account is None else None


class Clients:
    """All clients of one service, and their open requests."""

    def __init__(self, namespace: str, named: Mapping[str, str | None] | None = None) -> None:
        self._namespace = namespace
        self._any = named is None
        self._known = {
            id_: Client(id=id_, secret=secret, confidential=secret is not None) for id_, secret in (named or {}).items()
        }
        self._minted = 0
        self.codes: dict[str, Code] = {}
        self.devices: dict[str, Device] = {}

    def of_account(self, account: str) -> Client:
        """The client that logged ``account`` in. It has a secret, and is served without where public clients are."""
        id_ = f"client-{account}"
        client = self._known.get(id_)
        if client is None:
            client = self._known[id_] = Client(id=id_, secret=self._secret("client", account))
        return client

    def find(self, id_: str) -> Client | None:
        """The client of that id; ``None`` if it is not known and the service serves only clients that are."""
        return self._known.get(id_) or (Client(id=id_) if self._any else None)

    def register(self, facts: Mapping[str, Any], *, confidential: bool) -> Client:
        """A new client with that metadata; a confidential one gets a secret."""
        number = self._next()
        id_ = f"registered-{number}"
        secret = self._secret("client", id_) if confidential else None
        client = self._known[id_] = Client(id=id_, secret=secret, confidential=bool(confidential), facts=dict(facts))
        return client

    def authorize(self, code: Code) -> str:
        """The secret of a new authorization code."""
        secret = f"FAKE-code-{self._digest('code', self._next())}"
        self.codes[secret] = code
        return secret

    def begin(self, client: str, scope: str, now: float, issuer: str) -> tuple[str, Device]:
        """A device's new request, and its device code."""
        number = self._next()
        digest = self._digest("user", number).upper()
        device = Device(
            user_code=f"FAKE-{digest[:4]}{number:04}",
            client=client,
            scope=scope,
            until=now + DEVICE_LIFE,
            issuer=issuer,
        )
        secret = f"FAKE-device-{self._digest('device', number)}"
        self.devices[secret] = device
        return secret, device

    def asked_by(self, user_code: str) -> Device | None:
        """The request with that user code, whatever its case and hyphens."""
        wanted = _plain(user_code)
        return next((device for device in self.devices.values() if _plain(device.user_code) == wanted), None)

    def _next(self) -> int:
        self._minted += 1
        return self._minted

    def _secret(self, kind: str, name: str) -> str:
        return f"sk-FAKE-{kind}-{self._digest(kind, name)}"

    def _digest(self, kind: str, name: object) -> str:
        return hashlib.blake2b(f"{self._namespace} {kind} {name}".encode(), digest_size=20).hexdigest()


def _plain(code: str) -> str:
    return code.upper().replace("-", "")
