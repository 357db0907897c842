"""What the guard refused is in the history, whatever the client did with the error."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress

import pytest
import requests

from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.judge.earning import refusals, told


def asking(host):
    """By a socket, which no audit hook has to see: a tracer does not follow one."""
    with suppress(Exception), socket.socket() as client:  # as clients do that try again, or fall back
        client.connect((host, 443))


def refused(tokens):
    return [(event.actor, event.get("host")) for event in tokens.history if event.f == "refused"]


def test_each_is_noted_with_its_worker(tokens):
    """The one whose code it was: by its context, its task or its thread."""

    async def main():
        await asyncio.create_task(later(), name="job-7")

    async def later():
        asking("claude.ai")

    with tokens.worker("w3"):
        asking("API.anthropic.com.")
    asyncio.run(main())
    thread = threading.Thread(target=asking, args=["x.claude.com"], name="pool-1")
    thread.start()
    thread.join()

    assert refused(tokens) == [("w3", "api.anthropic.com"), ("job-7", "claude.ai"), ("pool-1", "x.claude.com")]


def test_a_name_of_hosts_is_answered_in_process_and_asked_of_nobody_else(tokens):
    """By requests, which is answered through the proxy alone, at that port, and by any spelling."""
    with ClaudeTokens(hosts=["gate.named.example:8443"]) as named:
        with pytest.raises(Exception, match=r"refused to reach gate\.named\.example: a test has named it in hosts="):
            requests.get("https://GATE.named.example:8443/oauth/token", timeout=5)
        with named.environ():
            answer = requests.get("https://gate.named.example:8443/api/hello", timeout=10)
            assert answer.json() == {"message": "hello"}
            assert requests.get("http://gate.named.example:8443/api/hello", timeout=10).status_code == 200
            assert requests.get("http://gate.named.example/api/hello", timeout=10).status_code == 403
        seen = [(event.get("host"), event.get("port")) for event in named.history if event.f == "refused"]
    assert seen == [("gate.named.example", None), ("gate.named.example", 80)]
    with pytest.raises(Exception, match=r"refused to reach gate\.named\.example"):  # a thread may wake after its test
        requests.get("https://gate.named.example/", timeout=5)


def test_they_are_told_by_kind_with_their_number(tokens):
    """Once, twice; with the remedy."""
    for host in ("claude.ai", "api.anthropic.com", "claude.ai"):
        asking(host)
    with suppress(Exception):
        open(f"{__import__('pwd').getpwuid(__import__('os').getuid()).pw_dir}/.claude/x").close()

    first, second, third = told(refusals(tokens.history))
    assert first.startswith("requests to claude.ai refused (2 times): tests never talk to the real service; httpx and")
    assert second.startswith("requests to api.anthropic.com refused (once): ")
    assert third.startswith("an attempt to touch ")


def test_after_the_end_nothing_is_noted(tokens):
    """The history is judged then."""
    tokens.finish()
    before = len(tokens.history)
    asking("claude.ai")
    assert len(tokens.history) == before
