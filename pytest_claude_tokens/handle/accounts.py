"""The accounts of one handle, and their logins as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fake_server.secrecy import shown
from fake_server.service import CLAUDE_CLIENT
from pytest_claude_tokens.claude.credentials import claude_credentials

if TYPE_CHECKING:
    from fake_server.core.authority import Grant
    from fake_server.server import Server

__all__ = ["Account", "Accounts"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Account:
    """An account that was logged in. Its values are those of the login and never follow rotation.

    ``expires_at`` is in POSIX seconds. A setup-token account has no ``refresh_token``. ``client_id`` and
    ``client_secret`` are those of the client that logged it in; with Claude's service, a public one. Accounts compare
    by identity, and ``repr`` shows no token, as pytest may print a comparison or a ``repr`` in a report.
    """

    name: str
    grant: str
    access_token: str
    refresh_token: str | None
    expires_at: float
    scope: str
    refresh_expires_at: float | None = None
    client_id: str = CLAUDE_CLIENT
    client_secret: str | None = None
    _reply: Callable[[], dict[str, Any]] = dict

    @classmethod
    def of(cls, grant: Grant, server: Server | None = None) -> Account:
        """The account of a new grant; without its ``server``, what Claude's clients store."""
        access = grant.access[0]
        refresh = None if grant.setup_token else grant.refresh[0].secret
        client = None if server is None else server.client_of(grant.account)
        return cls(
            name=grant.account,
            grant=grant.name,
            access_token=access.secret,
            refresh_token=refresh,
            expires_at=access.expires_at,
            scope=grant.scope,
            refresh_expires_at=None if grant.setup_token else grant.deadline,
            client_id=CLAUDE_CLIENT if client is None else client.id,
            client_secret=None if client is None else client.secret,
            # Made when it is asked for: signing an ID token takes longer than a whole schedule of a search.
            _reply=dict if server is None else partial(server.login_reply, grant, server.clock.now()),
        )

    @property
    def setup_token(self) -> bool:
        """Whether it has only a long-lived access token."""
        return self.refresh_token is None

    @property
    def credentials(self) -> dict[str, Any]:
        """A fresh copy of the credentials that Claude Code would store, with times in milliseconds."""
        return claude_credentials(
            self.access_token, self.refresh_token, self.expires_at, self.scope, self.refresh_expires_at
        )

    @property
    def tokens(self) -> dict[str, Any]:
        """The reply of the token endpoint to the login (RFC 6749 section 5.1); -1 for what has expired."""
        return self._reply()

    @property
    def login(self) -> dict[str, Any]:
        """Everything that a client of a standard service stores, as JSON."""
        return {
            "name": self.name,
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "expires_at": self.expires_at,
            "tokens": self.tokens,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }

    def __repr__(self) -> str:
        return f"<Account {self.name} {self.grant}{' setup-token' * self.setup_token}>"


class Accounts:
    """Logs accounts in, and looks up those that are: by the handle, or by a client itself."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._logged_in: dict[str, Account] = {}

    def log_in(self, name: str | None, *, expired: bool, expires_in: float | None, setup_token: bool) -> Account:
        """Log ``name`` in, by default the first free one of ``a1``, ``a2``, … Raises ``ValueError``."""
        with self._server.lock:
            grant = self._server.login(name, expired=expired, expires_in=expires_in, setup_token=setup_token)
            account = self._logged_in[grant.account] = Account.of(grant, self._server)
            return account

    def named(self, account: Account | str) -> str:
        """The account's name. Raises ``ValueError`` if no account has it."""
        name = getattr(account, "name", account)
        if not isinstance(name, str) or not self._server.authority.grants_of(name):
            known = dict.fromkeys(grant.account for grant in self._server.authority.grants)
            raise ValueError(f"no account is named {shown(name)}; there are: {', '.join(known) or 'none so far'}")
        return name

    def of_login(self, account: Account | str) -> Account:
        """The account as this handle logged it in. Raises ``ValueError`` if a client logged it in itself."""
        name = self.named(account)
        if name not in self._logged_in:
            raise ValueError(f"{shown(name)} was logged in by a client: its tokens are with that client")
        return self._logged_in[name]

    def __len__(self) -> int:
        return len(self._logged_in)
