"""`hold()` in a search: it waits for whoever can still come, however late by the simulated clock."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import CoSchedule, DoubleSpend
from tests.unit.explore.common import CALL_URL, TOKEN_URL, quick, refreshing, search

few = settings(quick, max_examples=20)


def spend_late(claude_tokens, workers, pause):
    """Both spend one token, `w1` some time after `w0`; both are held until both are there."""
    token = claude_tokens.account(expired=True).refresh_token

    def at_once():
        httpx.post(TOKEN_URL, json=refreshing(token), timeout=None)

    def later():
        time.sleep(pause)
        at_once()

    with claude_tokens.hold("token"):
        workers(at_once, later)


@pytest.mark.parametrize("pause", [1, 40, 4000])
def test_who_comes_late_is_waited_for(pause):
    """More than 30 s of simulated time pass in no time."""

    def body(claude_tokens, workers):
        spend_late(claude_tokens, workers, pause)

    assert isinstance(search(few(explore(workers=2)(body))).error, DoubleSpend)


@pytest.mark.parametrize("pause", [1, 40, 4000])
def test_who_comes_late_in_a_task_is_waited_for(pause):
    """Also where three are to come, and each finds the hold as it was."""

    async def body(claude_tokens, workers):
        bearer = claude_tokens.account().access_token

        async def call():
            async with httpx.AsyncClient(timeout=None) as client:
                await client.post(CALL_URL, json={}, headers={"authorization": f"Bearer {bearer}"})

        def after(seconds):
            async def job():
                await asyncio.sleep(seconds)
                await call()

            return job

        with claude_tokens.hold("call", count=3):
            await workers(after(0), after(pause), after(2 * pause))

    error = search(few(explore(workers=3)(body))).error
    assert isinstance(error, CoSchedule)
    assert sorted(error.actors) == ["w0", "w1"] or len(error.actors) == 2


def test_a_hold_for_which_too_few_can_come_runs_out_at_once():
    """No simulated time passes, and the error says who was there and who was not."""
    seen = []

    async def body(claude_tokens, workers):
        token = claude_tokens.account(expired=True).refresh_token

        async def comes():
            async with httpx.AsyncClient(timeout=None) as client:
                await client.post(TOKEN_URL, json=refreshing(token))

        async def stays_away():
            async with httpx.AsyncClient() as client:
                await client.get("https://api.anthropic.com/api/hello")

        before = time.time()
        try:
            with claude_tokens.hold("token"):
                await workers(comes, stays_away)
        finally:
            seen.append(time.time() - before)

    error = search(few(explore(workers=2)(body))).error
    assert isinstance(error, TimeoutError)
    assert str(error) == ('hold("token", count=2) ran out when nobody else could run: w0 waited; never came: w1')
    assert min(seen) == 0


def test_a_deadlock_beside_a_hold_is_told_as_one():
    """What the hold lets go on may still wait for ever."""

    def body(claude_tokens, workers):
        token = claude_tokens.account(expired=True).refresh_token
        never = threading.Event()

        def job():
            httpx.post(TOKEN_URL, json=refreshing(token), timeout=None)
            never.wait()

        with claude_tokens.hold("token", count=2):
            workers(job, never.wait)

    assert type(search(few(explore(workers=2)(body))).error).__name__ == "Deadlock"
