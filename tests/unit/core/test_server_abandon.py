"""What a service does with requests whose client will never read the reply."""

from __future__ import annotations

import pytest

from fake_server.clock import Clock
from fake_server.exchange import Exchange
from fake_server.policy import Policy
from fake_server.protocol.wire import Request
from fake_server.server import Server


@pytest.mark.parametrize(
    ("actor", "ended"), [("w0", ["w0", "w0"]), ("w1", ["w1"]), (None, ["w0", "w1", "w0"]), ("w2", [])]
)
def test_the_open_requests_of_an_actor_are_given_up_and_no_others(actor: str | None, ended: list[str]) -> None:
    """Each ends once, with no known outcome and the reason; ``None`` means every actor."""
    server = Server(Policy(), Clock(lambda: 0.0, kind="virtual"), lambda: 0.0, namespace="abandon")
    for name in ("w0", "w1", "w0"):
        Exchange(server, Request("GET", "/api/hello"), name).step()
    before = len(server.journal.events)

    server.abandon(actor, "killed")
    server.abandon(actor, "again")

    events = list(server.journal.events)[before:]
    assert [(event.type, event.actor, event.error) for event in events] == [("info", name, "killed") for name in ended]
    assert [request.actor for request in server.open.values()] == [
        name for name in ("w0", "w1", "w0") if actor is not None and name != actor
    ]
