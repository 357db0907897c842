"""What an explored test shows where it fails: the story for a violation, the user's own code for all else."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

import pytest

from pytest_claude_tokens.simulation.frames import of_the_user
from tests.plugin.logins import runs

DISPATCHER = """
import httpx
from pytest_claude_tokens import explore

def spend(refresh):
    body = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": "c"}
    return httpx.post("https://platform.claude.com/v1/oauth/token", json=body).raise_for_status()

def hello():
    return httpx.get("https://api.anthropic.com/api/hello").json()["message"]
"""


@pytest.fixture
def explored(pytester):
    """Runs a test file that begins with a small dispatcher."""
    return runs(pytester, DISPATCHER)


def test_a_violation_is_told_by_its_story_with_the_losers_error_as_its_cause(explored):
    """One line says what the losing worker died of; no line of code, of theirs or ours, stands before the headline."""
    result = explored(
        """
@explore(workers=2)
def test_twice(claude_tokens, workers):
    refresh = claude_tokens.account().refresh_token
    workers(lambda: spend(refresh))
"""
    )
    result.stdout.fnmatch_lines(
        [
            "E   claude_tokens.DoubleSpend: rt#1 by w0 (#2) and w1 (#3)",
            "again   #3 *",
            "error   httpx.HTTPStatusError: Client error '400 Bad Request' for url 'https://*",
            "        (test_it.py:*, test_it.py:*); all: --tb=long",
        ]
    )
    result.stdout.no_fnmatch_line("*def raise_for_status*")
    result.stdout.no_fnmatch_line("The above exception*")
    result.stdout.fnmatch_lines(["claude-tokens: 1 test, * schedules, 1 violation"])


@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_an_error_of_a_workers_own_is_shown_where_it_happened(explored, kind):
    """The traceback holds the body and the job, nothing of the search; the other worker's error is a note."""
    result = explored(
        """
import asyncio

@explore(workers=2)
async def test_tasks(claude_tokens, workers):
    async def job():
        assert await asyncio.to_thread(hello) == "goodbye"
    await workers(job)

@explore(workers=2)
def test_threads(claude_tokens, workers):
    def job():
        assert hello() == "goodbye"
    workers(job)
""",
        "-k",
        kind,
    )
    result.stdout.fnmatch_lines(
        [
            ">*workers(job)",
            '>*assert *hello* == "goodbye"',
            "E       AssertionError: assert 'hello' == 'goodbye'",
            "E       w1 raised AssertionError: *",
            "*- claude-tokens history -*",
            "verdict w0 raised AssertionError: assert 'hello' == 'goodbye'",
            "replay  * --claude-tokens-replay=ct1-*",
            "claude-tokens: 1 test, * schedules, 0 violations",
        ]
    )
    for inside in ("*pytest_claude_tokens/*.py*", "*fake_server/*.py*", "*asyncio/*.py*"):
        result.stdout.no_fnmatch_line(inside)


def test_what_a_body_asserts_itself_is_shown_in_its_line(explored):
    """As in any test, with the values that pytest's rewriting found."""
    result = explored(
        """
@explore(workers=2)
def test_replies(claude_tokens, workers):
    replies = workers(hello)
    assert replies == ["hello", "goodbye"]
"""
    )
    shown = result.stdout.str()
    assert '>       assert replies == ["hello", "goodbye"]\n' in shown
    assert "E         At index 1 diff: 'hello' != 'goodbye'\n" in shown
    assert "FAILED test_it.py::test_replies - AssertionError: assert ['hello', " in shown


def test_a_refused_look_up_is_no_violation_and_is_shown_where_it_happened(explored):
    """The line that would have reached the real service is what its author needs."""
    result = explored(
        """
import socket

@explore(workers=2)
def test_sockets(claude_tokens, workers):
    workers(hello, lambda: socket.getaddrinfo("statsig.anthropic.com", 443))
"""
    )
    result.stdout.fnmatch_lines(
        [
            '*lambda: socket.getaddrinfo("statsig.anthropic.com", 443)*',
            "E *claude_tokens.RealServiceRefused: refused to reach statsig.anthropic.com*",
            "claude-tokens: 1 test, * schedules, 0 violations",
        ]
    )


def test_only_frames_of_the_user_are_left():
    """Ours, those of asyncio and of threading are cut out, wherever they stand; of nothing, nothing is left."""
    assert of_the_user(None) is None

    async def job():
        raise RuntimeError

    caught = []

    def work():
        try:
            asyncio.run(job())
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    shown = of_the_user(caught[0].__traceback__)
    assert isinstance(shown, TracebackType)
    names = []
    while shown is not None:
        names.append(shown.tb_frame.f_code.co_name)
        shown = shown.tb_next
    assert names == ["work", "job"]
