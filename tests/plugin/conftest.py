"""What the tests of the plugin share: an inner pytest whose output is the same everywhere, and a pool."""

from __future__ import annotations

import pytest

# Imported out here, once: an inner run forgets what it imports, and would load httpx and add an audit hook each time.
import fake_server.transports.inprocess  # noqa: F401
import pytest_claude_tokens.plugin.call_phase  # noqa: F401
from tests.plugin.inner import settle
from tests.plugin.logins import HEAD, runs

PLAIN = "-p no:cacheprovider -p no:randomly -o asyncio_default_fixture_loop_scope=function"

POOL = '''
"""Requests straight at the service, without a client: the same in any kind of test."""
import json
from fake_server.exchange import Exchange
from fake_server.protocol.wire import Request

def refresh(tokens, worker, secret):
    body = {"grant_type": "refresh_token", "refresh_token": secret, "client_id": "c"}
    headers = (("content-type", "application/json"),)
    request = Request("POST", "/v1/oauth/token", headers, json.dumps(body).encode())
    exchange = Exchange(tokens.server, request, worker)
    while exchange.step() is not None:
        pass
    return tokens.server.journal.events[-1].status

def spend_twice(tokens):
    secret = tokens.account(expired=True).refresh_token
    assert refresh(tokens, "w0", secret) == 200
    assert refresh(tokens, "w1", secret) == 400

def storm(tokens):
    account = tokens.account()
    for _ in range(3):
        assert refresh(tokens, "w0", tokens.server.authority.grants[-1].refresh[-1].secret) == 200

def spend_once(tokens):
    assert refresh(tokens, "w0", tokens.account(expired=True).refresh_token) == 200
'''


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """`pytester` at 100 columns, without colours, outside of CI, with the module `pool` beside its tests."""
    settle(monkeypatch, PLAIN)
    pytester.makepyfile(pool=POOL)
    return pytester


@pytest.fixture
def explored(pytester):
    """Runs a test file with a login that is sound or not."""
    return runs(pytester, HEAD)
