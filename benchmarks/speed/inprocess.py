"""Token requests in process, through httpx: the service beside a bare respx route with a constant reply."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import httpx
import respx

from pytest_claude_tokens import ClaudeTokens

__all__ = ["WAYS"]

URL = "https://platform.claude.com/v1/oauth/token"
REQUESTS = 300


def _body(token: str) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": token, "client_id": "speed"}


def _constant() -> dict[str, object]:
    """A reply of the size that the service's has."""
    with ClaudeTokens() as tokens:
        return dict(httpx.post(URL, json=_body(tokens.account().refresh_token)).json())


CONSTANT = json.dumps(_constant()).encode()


def _sync(token: str) -> float:
    with httpx.Client() as client:
        started = time.process_time()
        for _ in range(REQUESTS):
            token = client.post(URL, json=_body(token)).json()["refresh_token"]
        return (time.process_time() - started) / REQUESTS * 1e6


async def _async(token: str) -> float:
    async with httpx.AsyncClient() as client:
        started = time.process_time()
        for _ in range(REQUESTS):
            token = (await client.post(URL, json=_body(token))).json()["refresh_token"]
        return (time.process_time() - started) / REQUESTS * 1e6


def _route(measure: Callable[[str], float]) -> Callable[[], float]:
    def run() -> float:
        with respx.mock() as router:
            router.post(URL).respond(200, content=CONSTANT, content_type="application/json")
            return measure("rt")

    return run


def _service(measure: Callable[[str], float]) -> Callable[[], float]:
    def run() -> float:
        with ClaudeTokens(allow=["refresh-storm"]) as tokens:
            return measure(tokens.account().refresh_token)

    return run


def _in_loop(token: str) -> float:
    return asyncio.run(_async(token))


WAYS = {
    "respx, a constant reply, httpx.Client": _route(_sync),
    "pytest-claude-tokens, httpx.Client": _service(_sync),
    "respx, a constant reply, httpx.AsyncClient": _route(_in_loop),
    "pytest-claude-tokens, httpx.AsyncClient": _service(_in_loop),
}
