"""The runner: one body, one schedule, one outcome."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from time import monotonic, sleep  # in a world: simulated seconds, which pass at once

import httpx
import pytest

from fake_server.faults import Fault
from pytest_claude_tokens.runs import runner
from pytest_claude_tokens.runs.outcome import Body
from pytest_claude_tokens.runs.runner import Runner
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, PlannedFault, Schedule
from tests.unit.simulation.worlds import ask, explored, notes, outcome_of
from tests.zoo.common import (
    CALL_URL,
    MESSAGE,
    TOKEN_URL,
    bearer_header,
    redeem,
    redeem_now,
    token_request,
)

pytestmark = pytest.mark.usefixtures("staged")


def test_body_gets_what_it_asks_for():
    """Handle, workers and the values of its strategies, in any combination."""
    seen = []

    async def all_three(number, claude_tokens, workers):
        seen.append((number, len(workers), claude_tokens.account().name))

    def neither():
        seen.append("neither")

    with explored(all_three, 3) as run:
        assert run(DEFAULT_ORDER, {"number": 5}).error is None
    with explored(neither) as run:
        assert run(DEFAULT_ORDER).error is None
    assert seen == [(5, 3, "a1"), "neither"] or seen[0][:2] == (5, 3)


def test_each_run_is_fresh():
    """Service, accounts and time begin anew; the same schedule gives the same history."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        await workers(lambda: redeem(account.refresh_token), ask)

    with explored(body) as run:
        outcomes = [run(DEFAULT_ORDER) for _ in range(3)]
    assert outcomes[0].error is None
    assert outcomes[0].lines() == outcomes[1].lines() == outcomes[2].lines()
    assert len({outcome.fingerprint() for outcome in outcomes}) == 1
    assert len({outcome.shape() for outcome in outcomes}) == 1
    assert outcomes[0].options == ()
    assert outcomes[0].decisions > 5


def test_kind_of_a_body_is_seen_from_it():
    """Tasks for an ``async def``, threads for a ``def``."""

    async def tasks():
        pass

    assert Body(function=tasks, workers=2).kind == "tasks"
    assert Body(function=lambda: None, workers=2).kind == "threads"


@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_error_of_the_body_is_the_outcomes(kind):
    """And a violation outranks it, with it as its cause."""

    async def fails(claude_tokens, workers):
        raise ValueError("mine")

    def fails_too(claude_tokens, workers):
        raise ValueError("mine")

    async def violates(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        await workers(lambda: redeem(account.refresh_token))

    outcome = outcome_of(fails if kind == "tasks" else fails_too)
    assert str(outcome.error) == "mine"
    violated = outcome_of(violates).error
    assert type(violated).__name__ == "DoubleSpend"
    assert isinstance(violated.__cause__, httpx.HTTPStatusError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interruption_is_raised(error):
    """It ends the search; and everything is put back."""

    def body():
        raise error

    async def async_body():
        raise error

    for each in (body, async_body):
        with pytest.raises(error):
            outcome_of(each)
    assert ACTIVE.world is None
    assert gc.isenabled()


def test_mishaps_strike_the_request_that_they_say():
    """Counted by kind."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()
        async with httpx.AsyncClient() as client:
            for _ in range(3):
                reply = await client.post(CALL_URL, json=MESSAGE, headers=bearer_header(account.access_token))
                statuses.append(reply.status_code)

    statuses: list[int] = []
    outcome_of(
        body,
        Schedule(planned_faults=(PlannedFault(1, "call", Fault.status(503)), PlannedFault(0, "token", Fault.RESET))),
    )
    assert statuses == [200, 503, 200]


def test_jitter_is_the_seeds():
    """Of the module's own generator, too."""
    drawn = []

    def body():
        drawn.append(random.random())

    for seed in (1, 1, 2):
        outcome_of(body, Schedule(seed=seed))
    assert drawn[0] == drawn[1] != drawn[2]


def test_collector_rests_during_a_run():
    """When it comes depends on all that was made before; so it comes between runs."""
    seen = []

    def body():
        seen.append(gc.isenabled())

    outcome_of(body)
    gc.disable()
    try:
        outcome_of(body)
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert seen == [False, False]


def test_runs_may_be_nested():
    """A body that searches by itself; the outer run goes on where it was."""

    async def inner(claude_tokens, workers):
        await asyncio.sleep(5)
        await workers(ask)

    def outer(claude_tokens, workers):
        sleep(1)
        assert outcome_of(inner).error is None
        assert monotonic() == 1

    assert outcome_of(outer).error is None


@pytest.mark.parametrize(("counts", "collected"), [((0, 0, 11), [2]), ((0, 11, 3), [1]), ((2001, 0, 0), [])])
def test_old_garbage_is_collected_between_runs(counts, collected, monkeypatch):
    """A run that has collected the young itself resets what the collector counts by."""
    seen = []
    monkeypatch.setattr(runner.gc, "get_count", lambda: counts)
    monkeypatch.setattr(runner.gc, "get_threshold", lambda: (2000, 10, 10))
    monkeypatch.setattr(runner.gc, "collect", seen.append)
    outcome_of(lambda: None)
    assert seen == collected


def test_runner_answers_for_nobody_between_runs():
    """The interceptor that stands around all runs asks it."""

    def body(claude_tokens):
        seen.append(runner.resolve())

    seen: list = []
    runner = Runner(Body(function=body, workers=1))
    assert runner.resolve() is None
    runner.run(DEFAULT_ORDER)
    assert seen[0] is not None
    assert runner.resolve() is None


def test_token_url_is_that_of_the_service():
    """A refresh in a thread, in the world, is answered by the run's own service."""

    def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        reply = httpx.post(TOKEN_URL, json=token_request(account.refresh_token))
        assert reply.json()["access_token"].startswith("sk-ant-oat01-FAKE")

    assert outcome_of(body, allow=["lost-rotation"]).error is None


def test_store_that_would_have_to_wait_is_unreadable():
    """A dispatcher refreshes under the lock that its store takes: the store is asked, and nobody waits."""

    def body(claude_tokens, workers):
        account = claude_tokens.account(expired=True)
        lock, held = threading.Lock(), [account.refresh_token]

        def store():
            with lock:
                return held[0]

        def job():
            with lock:
                held[0] = redeem_now(held[0]).refresh

        claude_tokens.watch_store(store, account)
        workers(job)

    outcome = outcome_of(body)
    assert outcome.error is None
    assert [event.get("state") for event in notes(outcome, "store")] == ["token", "unreadable", "token"]
