"""``NothingRaced``: said where nothing was proved, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import warnings

import httpx
import pytest
from hypothesis import Phase, example, settings
from hypothesis import strategies as st

from pytest_claude_tokens import explore
from pytest_claude_tokens.violations import DoubleSpend, NothingRaced
from tests.unit.explore.common import CALL_URL, HELLO_URL, Login, hello, search, sound, unsound

quick = settings(database=None, derandomize=True, max_examples=15)
SAYS = "2 workers, no judged request while another's job was under way"


def outcome_of(body, **options):
    return search(quick(explore(**options)(body))).error


def test_a_dispatcher_that_serializes_everything_is_sound():
    """Who waits for a lock has begun: the other's request was open meanwhile."""

    async def test_it(claude_tokens, workers):
        lock = asyncio.Lock()

        async def job():
            async with lock:
                await hello()

        await workers(job)

    assert outcome_of(test_it) is None


def test_threads_that_serialize_everything_are_sound():
    """As with tasks: the second waits for the lock while the first asks."""

    def test_it(claude_tokens, workers):
        lock = threading.Lock()

        def job():
            with lock:
                httpx.get(HELLO_URL)

        workers(job)

    assert outcome_of(test_it) is None


def test_workers_that_ran_one_after_the_other_prove_nothing():
    """Here a task blocks the event loop with a thread's client: the next one begins when it has ended."""

    async def test_it(claude_tokens, workers):
        async def blocking():
            httpx.get(HELLO_URL)

        await workers(blocking)

    error = outcome_of(test_it)
    assert type(error) is NothingRaced
    assert str(error) == SAYS
    assert isinstance(error, AssertionError)


def test_what_was_refused_is_told_where_nothing_raced():
    """To a client that swallows the error: by the guard, and by the simulated network."""

    def test_threads(claude_tokens, workers):
        def job():
            with contextlib.suppress(RuntimeError), socket.socket() as client:
                client.connect(("statsig.anthropic.com", 443))

        workers(job)

    async def test_tasks(claude_tokens, workers):
        async def job():
            with contextlib.suppress(OSError):
                await asyncio.open_connection("other.example", 443)

        await workers(job)

    def refused(error):
        first, second = str(error).split("; ")[:2]
        assert (type(error), first) == (NothingRaced, SAYS)
        return second

    assert refused(outcome_of(test_threads)).startswith(
        "requests to statsig.anthropic.com refused (30 times): tests never"
    )
    assert refused(outcome_of(test_tasks)).startswith("requests to other.example refused (30 times): name it in hosts=")


def test_calls_without_a_credential_prove_nothing():
    """The login is never used, so that none of its tokens can be spent twice; an API key is one."""

    def calling(**headers):
        async def test_it(claude_tokens, workers):
            claude_tokens.account()

            async def job():
                async with httpx.AsyncClient() as client:
                    await client.post(CALL_URL, json={"messages": []}, headers=headers)

            await workers(job)

        return outcome_of(test_it)

    error = calling()
    assert type(error) is NothingRaced
    told = "POST api.anthropic.com/v1/messages -> 401 (30 times): it carried neither bearer nor API key"
    assert str(error).split("; ")[1] == told
    assert calling(**{"x-api-key": "mine"}) is None


def test_requests_without_workers_prove_nothing():
    """What the body asks itself is nobody's job."""

    async def test_it(claude_tokens, workers):
        await hello()

    assert type(outcome_of(test_it)) is NothingRaced


def test_workers_without_requests_prove_nothing():
    """Whatever they do among themselves."""

    async def test_it(claude_tokens, workers):
        async def job():
            await asyncio.sleep(1)

        await workers(job)

    assert type(outcome_of(test_it)) is NothingRaced


def test_one_workers_request_while_the_other_sleeps_is_a_race():
    """One request is enough, of any kind: here it is ``/api/hello``."""

    async def test_it(claude_tokens, workers):
        async def sleeper():
            await asyncio.sleep(1)

        await workers(hello, sleeper)

    assert outcome_of(test_it) is None


def test_a_single_call_is_a_race_too():
    """``/v1/messages`` by one worker while the other has not ended."""

    async def test_it(claude_tokens, workers):
        login = Login(claude_tokens.account())

        async def call():
            async with httpx.AsyncClient() as client:
                headers = {"Authorization": f"Bearer {login.access}"}
                await client.post(CALL_URL, json={"messages": []}, headers=headers)

        async def sleeper():
            await asyncio.sleep(1)

        await workers(sleeper, call)

    assert outcome_of(test_it) is None


def test_a_race_in_any_schedule_is_enough():
    """Not each has to have one."""

    async def test_it(claude_tokens, workers, together):
        async def nothing():
            pass

        await workers(hello, hello if together else nothing)

    assert outcome_of(test_it, together=st.booleans()) is None


def test_a_systematic_search_is_judged_as_well():
    """Every schedule with so many deviations of nothing is still nothing."""

    async def test_it(claude_tokens, workers):
        async def job():
            pass

        await workers(job)

    assert type(search(explore(exhaustive=1)(test_it)).error) is NothingRaced


def test_one_worker_alone_is_warned_and_not_failed():
    """Once for the test, whatever the number of schedules."""

    async def test_it(claude_tokens, workers):
        await workers(hello)

    with pytest.warns(UserWarning, match=r"explore\(workers=1\): one worker alone can't race") as told:
        assert outcome_of(test_it, workers=1) is None
    assert len(told) == 1


def test_a_failure_is_told_instead():
    """Something was found: that is what counts."""

    async def test_it(claude_tokens, workers):
        raise RuntimeError("no such pool")

    assert type(outcome_of(test_it)) is RuntimeError


def test_explicit_examples_alone_are_not_judged():
    """Nor is a replay: both ask for one thing, and it did not go wrong."""
    calls = []

    async def test_it(claude_tokens, workers, n):
        calls.append(n)
        login = unsound(claude_tokens) if n == 1 else sound(claude_tokens)
        if n < 2:
            await workers(login.token)

    strategies = {"n": st.integers(0, 2)}
    alone = settings(quick, phases=[Phase.explicit])(example(n=2)(explore(**strategies)(test_it)))
    assert search(alone).error is None
    found = search(quick(explore(**strategies)(test_it)))
    assert isinstance(found.error, DoubleSpend)

    async def mended(claude_tokens, workers, n):
        calls.append(n)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search(explore(**strategies)(mended), replay=found.found.token).error is None
