"""One request that is being answered: what the functions of this layer share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from fake_server.core.authority import Grant
    from fake_server.protocol.asking import Asked
    from fake_server.protocol.oauth_replies import OAuthReplies
    from fake_server.protocol.routes import Place
    from fake_server.protocol.wire import Intent, Request
    from fake_server.server import Server

__all__ = ["Turn"]


@dataclass(slots=True, kw_only=True)
class Turn:
    """A request, the service that answers it, and the facts of its end in the journal.

    ``facts`` are fields that every event has, ``data`` those that only some have. ``was_live``:
    the refresh token was live when the request arrived.
    """

    server: Server
    request: Request
    intent: Intent | Asked
    op: int
    actor: str
    facts: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    was_live: bool = False

    @property
    def asked(self) -> Asked:
        """The request to a service that speaks the standards, as it was read."""
        return cast("Asked", self.intent)

    @property
    def replies(self) -> OAuthReplies:
        """The service's replies."""
        return self.server.oauth

    @property
    def now(self) -> float:
        """The service's time."""
        return self.server.clock.now()

    @property
    def place(self) -> Place:
        """Where the client reached the service."""
        return self.server.routes.place(self.request, self.asked.route.variables)

    @property
    def issuer(self) -> str:
        """The issuer's name, as the client knows it."""
        return self.place.url(self.server.routes.issuer)

    def logged_in(self, grant: Grant) -> None:
        """Journal with the end of this request that it has created ``grant``."""
        self.facts.update(grant=grant.name, account=grant.account)
        refresh = None if grant.setup_token else grant.refresh[0].label
        self.facts["issued"] = {"access": grant.access[0].label, "refresh": refresh}
