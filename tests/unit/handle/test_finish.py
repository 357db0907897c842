from __future__ import annotations

import sys

import pytest

from fake_server import genuine
from fake_server.exchange import Exchange
from fake_server.protocol.wire import Request
from pytest_claude_tokens.handle import finish


@pytest.fixture
def opened(tokens):
    """A call that is on its way, and is never carried on."""
    request = Request("POST", "/v1/messages", (("authorization", f"Bearer {tokens.account().access_token}"),), b"{}")
    Exchange(tokens.server, request, "w0").step()
    return tokens


@pytest.mark.parametrize("module", ["present", "absent"])
def test_a_thread_that_is_alone_outside_of_a_loop_waits(opened, monkeypatch, module):
    """A signal's handler, or another process over a socket, may still end the request."""
    monkeypatch.setattr(genuine.threading, "active_count", lambda: 1)
    if module == "absent":
        monkeypatch.delitem(sys.modules, "asyncio")

    assert finish.wait_for_open(opened.server, 0.01)


def test_where_nothing_is_open_nothing_is_waited_for(tokens):
    """Nor is it said that something was."""
    assert not finish.wait_for_open(tokens.server, 60)
