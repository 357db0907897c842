"""Abuse over the wire: the service goes on, for everybody else and to a whole history."""

from __future__ import annotations

import pytest

from fake_server.serve.admin import Admin
from fake_server.transports.sockets import SocketServer
from tests.unit.transports.abuse import ENDINGS, PORTIONS, abuse, said
from tests.unit.transports.raw import a_server, raw, request


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("portion", PORTIONS)
def test_nobody_else_notices(portion, ending, caplog):
    """A client is served beside all of it; at the end nothing is open, and nothing was logged as an error of ours."""
    server = a_server()
    bearer = server.login("a").access[0].secret
    admin = Admin(server, dict, lambda **asked: {"name": server.login(**asked).account})
    with SocketServer(server, local_handler=admin) as listener:
        left = [abuse(listener.port, (data, portion, ending)) for data in said(bearer)]
        with raw(listener.port) as client:
            client.send(request("GET", "/api/hello"))
            assert client.reply().status == 200
        listener.stop(0.01)
        for one in left:
            if one is not None:
                one.close()
    ends = [event.op for event in server.journal.events if event.type in ("ok", "fail", "info")]
    assert sorted(ends) == [event.op for event in server.journal.events if event.type == "invoke"]
    assert server.open == {}
    assert [grant.account for grant in server.authority.grants] == ["a"]
    assert not any("Infinity" in event.to_json() for event in server.journal.events)
    assert [record.message for record in caplog.records if record.levelname != "DEBUG"] == []
