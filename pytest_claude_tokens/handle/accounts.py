"""A login as a value: what the service gave to an account, once and for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_claude_tokens.claude.credentials import claude_credentials

if TYPE_CHECKING:
    from fake_server.core.authority import Grant

__all__ = ["Account"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Account:
    """An account that was logged in. Its values are those of the login and never follow rotation.

    ``expires_at`` is in POSIX seconds. A setup-token account has no ``refresh_token``. Two are equal when they are one
    object, and neither a comparison nor ``repr`` tells a token: both may end up in a report.
    """

    name: str
    grant: str
    access_token: str
    refresh_token: str | None
    expires_at: float
    scope: str
    refresh_expires_at: float | None = None

    @classmethod
    def of(cls, grant: Grant) -> Account:
        """The account of a grant that was just made."""
        access = grant.access[0]
        return cls(
            name=grant.account,
            grant=grant.name,
            access_token=access.secret,
            refresh_token=None if grant.setup_token else grant.refresh[0].secret,
            expires_at=access.expires_at,
            scope=grant.scope,
            refresh_expires_at=None if grant.setup_token else grant.deadline,
        )

    @property
    def setup_token(self) -> bool:
        """Whether it has only a long-lived access token."""
        return self.refresh_token is None

    @property
    def credentials(self) -> dict[str, Any]:
        """A fresh copy of what Claude Code would store, with times in milliseconds."""
        return claude_credentials(
            self.access_token, self.refresh_token, self.expires_at, self.scope, self.refresh_expires_at
        )

    def __repr__(self) -> str:
        return f"<Account {self.name} {self.grant}{' setup-token' * self.setup_token}>"
