"""The official SDK as the dispatcher under test: which ways to share one login are safe?

The SDK refreshes an expired login by itself and stores the new one in a file. One client does so once, however many
threads use it. Two clients on one file know nothing of each other: both send the same refresh token, and the service
takes it once. `@explore` runs each body under many orders and delays; nothing waits in reality, nothing leaves.
"""

from __future__ import annotations

import json

import pytest

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend

anthropic = pytest.importorskip("anthropic", reason="needs the official SDK: pip install anthropic")
pytest.importorskip("pytest_httpx2", reason="the SDK is built on httpx2: pip install 'pytest-claude-tokens[httpx2]'")


def login(claude_tokens):
    """An expired login, in a file of the SDK's format and in this test's own folder."""
    account = claude_tokens.account(expired=True)
    file = claude_tokens.tmp_path / "login.json"
    tokens = {"access_token": account.access_token, "refresh_token": account.refresh_token}
    file.touch(mode=0o600)
    file.write_text(json.dumps({"type": "oauth_token", "expires_at": int(account.expires_at), **tokens}))
    # The store is watched, too: at the end it must hold a refresh token that the service would accept.
    claude_tokens.watch_store(lambda: json.loads(file.read_text())["refresh_token"], account)
    return {"authentication": {"type": "user_oauth", "client_id": "example", "credentials_path": str(file)}}


@explore(workers=4)
def test_one_client_for_all_threads(claude_tokens, workers):
    """Sound: one token request in any order. (Models are listed, for calls on one bearer would be another finding.)"""
    client = anthropic.Anthropic(config=login(claude_tokens), max_retries=0)
    workers(client.models.list)


@pytest.mark.xfail(raises=DoubleSpend, strict=True, reason="no lock between the clients")
@explore(workers=2)
def test_a_client_for_each_thread(claude_tokens, workers):
    """Not sound: run this with --runxfail to read how it comes about, and for the command that replays it."""
    config = login(claude_tokens)
    workers(*[anthropic.Anthropic(config=config, max_retries=0).models.list for _ in range(2)])


@pytest.mark.xfail(raises=DoubleSpend, strict=True, reason="no lock between the clients")
@explore(workers=2)
async def test_a_client_for_each_task(claude_tokens, workers):
    """The same in tasks. The asynchronous client refreshes in a thread, which is searched as well."""
    config = login(claude_tokens)

    async def work():
        async with anthropic.AsyncAnthropic(config=config, max_retries=0) as client:
            return await client.models.list()

    await workers(work)
