"""The end of a handle: what is waited for, and what each grant has by then."""

from __future__ import annotations

import asyncio
import json
import threading

import httpx

from fake_server import genuine
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from tests.unit.handle.requests_of import call, refresh


def test_the_end_waits_for_open_operations():
    """A request of a thread that goes on after the body is still seen to its end."""
    with ClaudeTokens(latency=0.1) as tokens:
        account = tokens.account()
        thread = threading.Thread(target=call, args=(account.access_token,))
        thread.start()
        while not tokens.server.open:
            threading.Event().wait(0.001)
    thread.join()

    assert [operation.outcome for operation in tokens.history.operations] == ["ok"]


def test_an_operation_that_takes_longer_is_given_up(monkeypatch):
    """Its outcome is unknown; its client is told at once."""
    from pytest_claude_tokens.handle import finish

    monkeypatch.setattr(finish.wait_for_open, "__defaults__", (0.05,))
    with ClaudeTokens() as tokens:
        with tokens.hold("call", count=2):
            account = tokens.account()
            errors = []

            def work():
                try:
                    call(account.access_token)
                except Exception as error:
                    errors.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            while not tokens.server.open:
                threading.Event().wait(0.001)
            tokens.finish()
        thread.join()

    (operation,) = tokens.history.operations
    assert (operation.outcome, operation.end.error) == ("info", "still open at the end")
    assert [type(error) for error in errors] == [httpx.ReadError]


def test_the_end_does_not_wait_for_tasks_of_its_own_loop(monkeypatch):
    """In a loop without other threads nothing could end while we wait."""
    monkeypatch.setattr(genuine.threading, "active_count", lambda: 1)

    async def main():
        with ClaudeTokens(latency=5) as tokens:
            account = tokens.account()
            async with httpx.AsyncClient() as client:
                headers = {"authorization": f"Bearer {account.access_token}"}
                task = asyncio.create_task(
                    client.post("https://api.anthropic.com/v1/messages", headers=headers, json={})
                )
                while not tokens.server.open:
                    await asyncio.sleep(0)
                tokens.finish()
                task.cancel()
        return tokens

    tokens = asyncio.run(main())

    assert tokens.history.operations[0].end.error == "still open at the end"


def test_a_client_that_stores_last_has_lost_nothing(monkeypatch):
    """A thread that is between its reply and its store when the body ends gets the time for it."""
    with ClaudeTokens(latency={"token": 0.05}) as tokens:
        account = tokens.account(expired=True)
        file = tokens.config_dir(account) / ".credentials.json"

        def work():
            reply = refresh(account.refresh_token)
            threading.Event().wait(0.05)
            new = file.with_suffix(".new")
            new.touch(0o600)
            new.write_text(json.dumps({"claudeAiOauth": {"refreshToken": reply.json()["refresh_token"]}}))
            new.replace(file)

        thread = threading.Thread(target=work)
        thread.start()
        while not tokens.server.open:
            threading.Event().wait(0.001)
    thread.join()

    assert tokens.history.noted("store")[-1].refresh == "rt#2"


def test_the_end_says_what_each_grant_has(tokens):
    """Accepted tokens, what it died of, its stores."""
    one, two, three = tokens.account("one"), tokens.account("two"), tokens.account("three", setup_token=True)
    tokens.config_dir(one)
    refresh(one.refresh_token)
    tokens.revoke(two)
    tokens.finish()

    (end,) = tokens.history.noted("end")
    assert end.get("grants") == {
        "g#1": {"account": "one", "setup_token": False, "accepts": ["rt#2"], "death": None, "stores": ["shared"]},
        "g#2": {"account": "two", "setup_token": False, "accepts": [], "death": "revoke", "stores": []},
        "g#3": {"account": three.name, "setup_token": True, "accepts": [], "death": None, "stores": []},
    }
