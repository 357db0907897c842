"""Finds the judge of a service that runs on its own: the one that an installed package provides, if any."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from fake_server.serve.commandline import Usage
from fake_server.serve.service import Judged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fake_server.core.authority import Grant
    from fake_server.serve.service import Judge
    from fake_server.server import Server

__all__ = ["GROUP", "Unjudged", "find_judge"]

GROUP = "fake_server.judge"
"""The entry-point group in which a package provides a judge: a callable without arguments that returns one."""

_UNKNOWN = 3
"""The exit status of the verdict UNKNOWN."""


def find_judge() -> Judge:
    """The installed judge; if there is none, a stand-in whose verdict is always UNKNOWN.

    Raises ``Usage`` if several are installed, or the judge can't be loaded: a user who has installed a judge must not
    get a service that is silently unjudged.
    """
    offers = {entry.value: entry for entry in entry_points(group=GROUP)}
    if not offers:
        return Unjudged()
    if len(offers) > 1:
        raise Usage(f"several packages offer a judge ({', '.join(sorted(offers))}): uninstall all but one")
    ((name, offer),) = offers.items()
    try:
        make = offer.load()
    except (ImportError, AttributeError) as error:
        raise Usage(f"the judge {name} can't be loaded: {error}") from error
    return cast("Judge", make())


class Unjudged:
    """The stand-in without a judge. A client gets only its tokens and the service's address."""

    def header(self) -> dict[str, Any]:
        return {}

    def credentials(self, grant: Grant) -> Mapping[str, Any]:
        access = grant.access[0]
        refresh = None if grant.setup_token else grant.refresh[0].secret
        return {"access_token": access.secret, "refresh_token": refresh, "expires_at": access.expires_at}

    def environment(
        self, grant: Grant, *, home: str, url: str, proxy: str | None, ca_file: str | None
    ) -> Mapping[str, str]:
        return {"HOME": home, "ANTHROPIC_BASE_URL": url}

    def look(self, server: Server) -> Judged:
        text = f"fake_server: UNKNOWN, not judged: no installed package offers a judge ({GROUP})"
        return Judged(_UNKNOWN, text, {"verdict": "UNKNOWN", "notes": ["not judged"]})

    def finish(self, server: Server) -> Judged:
        server.abandon(None, "still open at the end")
        return self.look(server)

    def page(self, server: Server) -> str | None:
        return None
