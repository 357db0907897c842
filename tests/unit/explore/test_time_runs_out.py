"""A time-out of the body's own that runs out as the search holds something up is no failure; any other is."""

from __future__ import annotations

import asyncio
import threading

import anyio
import httpx
import pytest
import trio

from pytest_claude_tokens import explore
from pytest_claude_tokens.runs.outcome import is_time_out
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import TOKEN_URL, hello, quick, refreshing, search


class Flight:
    """One refresh for all who ask; nobody waits for it for more than three seconds."""

    def __init__(self, account, *, single=True):
        self.refresh_token, self.bearer, self.flight, self.single = account.refresh_token, None, None, single

    async def refresh(self):
        async with httpx.AsyncClient() as client:
            reply = await client.post(TOKEN_URL, json=refreshing(self.refresh_token))
        self.bearer = reply.raise_for_status().json()["access_token"]

    async def ask(self):
        if self.flight is None or not self.single:
            self.flight = asyncio.create_task(self.refresh())
        await asyncio.wait_for(asyncio.shield(self.flight), 3)


async def waiting_for(claude_tokens, workers, *, single):
    login = Flight(claude_tokens.account(expired=True), single=single)
    try:
        await workers(login.ask)
    finally:
        await asyncio.wait([login.flight])


def test_who_is_impatient_with_what_the_search_holds_up_is_not_blamed():
    """The summary says how often that was so."""

    @quick
    @explore(workers=3)
    async def test(claude_tokens, workers):
        await waiting_for(claude_tokens, workers, single=True)

    result = search(test)
    assert result.error is None
    assert 0 < result.report.ran_out < result.report.schedules
    assert f" ({result.report.ran_out} ended by time-outs)" in result.report.text()


def test_what_broke_in_such_a_run_is_told():
    @quick
    @explore(workers=3)
    async def test(claude_tokens, workers):
        await waiting_for(claude_tokens, workers, single=False)

    assert type(search(test).error) is DoubleSpend


@pytest.mark.parametrize("group", [False, True])
def test_a_time_out_that_needs_no_delay_is_a_failure(group):
    @quick
    @explore(workers=2)
    async def test(claude_tokens, workers):
        async def job():
            await hello()
            with anyio.fail_after(1):
                await asyncio.sleep(2)

        if not group:
            await workers(job)
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(workers, job)

    assert is_time_out(search(test).error)


def test_another_error_comes_before_a_time_out():
    """Which would hide it."""

    @quick
    @explore(workers=2)
    def test(claude_tokens, workers):
        claude_tokens.account()
        first = threading.Lock()

        def job():
            raise TimeoutError if first.acquire(blocking=False) else LookupError("another")

        workers(job)

    error = search(test).error
    assert type(error) is LookupError
    assert "w0 raised TimeoutError" in str(error.__notes__)


def test_a_group_is_a_time_out_if_all_in_it_are():
    assert is_time_out(ExceptionGroup("", [trio.TooSlowError()]))
    assert is_time_out(ExceptionGroup("", [TimeoutError(), ExceptionGroup("", [TimeoutError()])]))
    assert not is_time_out(ExceptionGroup("", [TimeoutError(), LookupError()]))
    assert not is_time_out(None)
