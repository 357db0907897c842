"""Explored tests over one login, sound and not, for an inner pytest to run."""

from __future__ import annotations

import re

HEAD = """
import asyncio, httpx, pytest, time, unittest
import hypothesis
from hypothesis import assume, example, reproduce_failure, seed, settings, strategies as st
from pytest_claude_tokens import explore

TOKEN_URL = "https://platform.claude.com/v1/oauth/token"

class Login:
    def __init__(self, account, locked=True):
        self.secret, self.expires = account.refresh_token, account.expires_at
        self.lock = asyncio.Lock() if locked else None

    async def token(self):
        if self.lock is None:
            return await self.unlocked()
        async with self.lock:
            return await self.unlocked()

    async def unlocked(self):
        if time.time() < self.expires:
            return
        body = {"grant_type": "refresh_token", "refresh_token": self.secret, "client_id": "c"}
        async with httpx.AsyncClient() as client:
            reply = (await client.post(TOKEN_URL, json=body)).raise_for_status().json()
        self.secret, self.expires = reply["refresh_token"], time.time() + reply["expires_in"]

few = settings(max_examples=20, database=None, derandomize=True)
"""
SOUND = """
@few
@explore()
async def test_sound(claude_tokens, workers):
    await workers(Login(claude_tokens.account(expired=True)).token)
"""
BAD = """
@few
@explore()
async def test_bad(claude_tokens, workers):
    await workers(Login(claude_tokens.account(expired=True), locked=False).token)
"""


def runs(pytester, head):
    """A function that runs a test file with this head, and the body and arguments that it is given."""

    def run(body, *arguments):
        pytester.makepyfile(test_it=head + body)
        return pytester.runpytest(*arguments)

    return run


def replay_line(result):
    """The command of a failure's ``replay`` line."""
    return re.search(r"^replay  (.*)$", str(result.stdout), re.MULTILINE)[1]


def told(pytester):
    """The history of the one failure."""
    (path,) = pytester.path.glob(".claude-tokens/*/history.jsonl")
    return path.read_bytes()
