"""Threads that share one login, in memory and in a file."""

from __future__ import annotations

import json
import os
import threading
import time

import httpx
import pytest

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import CoSchedule, DoubleSpend

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"
CALL_URL = "https://api.anthropic.com/v1/messages"


class Agent:
    """Keeps its login in a folder, as Claude Code does, and asks ``lock`` before it touches it."""

    def __init__(self, folder, lock):
        self.path, self.lock = folder / ".credentials.json", lock

    def bearer(self):
        with self.lock:
            stored = json.loads(self.path.read_text())
            login = stored["claudeAiOauth"]
            if time.time() * 1000 >= login["expiresAt"]:
                body = {"grant_type": "refresh_token", "refresh_token": login["refreshToken"], "client_id": "example"}
                with httpx.Client() as client:
                    new = client.post(TOKEN_URL, json=body).raise_for_status().json()
                login["accessToken"], login["refreshToken"] = new["access_token"], new["refresh_token"]
                login["expiresAt"] = int((time.time() + new["expires_in"]) * 1000)
                self.save(stored)
        return login["accessToken"]

    def save(self, stored):
        new = self.path.with_suffix(f".{threading.get_ident()}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(stored, file)
        os.replace(new, self.path)


@explore(workers=3)
def test_agents_with_one_lock(claude_tokens, workers):
    """Sound: the login is refreshed once, and its folder ends with a token that the service accepts."""
    folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
    lock = threading.Lock()
    bearers = workers(*[Agent(folder, lock).bearer for _ in range(3)])
    assert len(set(bearers)) == 1


@pytest.mark.xfail(raises=DoubleSpend, strict=True, reason="each agent has a lock of its own")
@explore(workers=2)
def test_agents_with_a_lock_each(claude_tokens, workers):
    """As two containers, each of which locks something that the other does not see."""
    folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
    workers(*[Agent(folder, threading.Lock()).bearer for _ in range(2)])


@pytest.mark.xfail(raises=CoSchedule, strict=True, reason="nothing keeps two calls on one bearer apart")
@explore(workers=2)
def test_two_calls_on_one_bearer(claude_tokens, workers):
    """The service would serve one and let the other wait."""
    headers = {"Authorization": f"Bearer {claude_tokens.account().access_token}"}
    ask = {"model": "claude-x", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    workers(lambda: httpx.post(CALL_URL, json=ask, headers=headers))
