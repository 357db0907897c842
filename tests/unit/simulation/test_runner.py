"""One run: a fresh service, the body, what came of it; and everything is as it was after it."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from contextlib import suppress
from time import monotonic, sleep  # in a world: simulated seconds, which pass at once

import httpx
import pytest
from hypothesis import given, settings

from fake_server.effects import Signal, Wait
from fake_server.faults import Fault
from pytest_claude_tokens.runs import runner
from pytest_claude_tokens.runs.outcome import Body
from pytest_claude_tokens.runs.runner import Runner
from pytest_claude_tokens.simulation import scheduler
from pytest_claude_tokens.simulation.active import ACTIVE
from pytest_claude_tokens.simulation.loop import SimulatedLoop
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, DELAYS, Deviation, PlannedFault, Schedule
from pytest_claude_tokens.simulation.thread_record import Stopped
from pytest_claude_tokens.simulation.waiter import SimulatedWaiter
from tests.unit.simulation.worlds import explored, outcome_of, run_threads, schedules, world
from tests.zoo.common import (
    CALL_URL,
    HELLO_URL,
    MESSAGE,
    STREAMED,
    TOKEN_URL,
    bearer_header,
    redeem,
    redeem_now,
    token_request,
)

pytestmark = pytest.mark.usefixtures("staged")


async def ask():
    async with httpx.AsyncClient() as client:
        await client.get(HELLO_URL)


def notes(outcome, what):
    return [event for event in outcome.history if event.f == what]


# What comes of a run.


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


# The end.


def test_open_requests_have_a_minute_to_end():
    """After the body; then they are given up."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def call():
            async with httpx.AsyncClient() as client:
                with suppress(httpx.HTTPError):
                    await client.post(CALL_URL, json=MESSAGE, headers=bearer_header(account.access_token))

        tasks.append(asyncio.create_task(call()))
        await asyncio.sleep(1)

    def threads(claude_tokens, workers):
        account = claude_tokens.account()
        threading.Thread(
            target=httpx.post,
            args=[CALL_URL],
            kwargs={"json": MESSAGE, "headers": bearer_header(account.access_token)},
            daemon=True,
        ).start()
        sleep(1)

    tasks: list = []
    for each in (body, threads):
        in_time = outcome_of(each, latency={"call": 30})
        assert [event.type for event in in_time.history if event.type in ("ok", "info")] == ["ok"]
        too_late = outcome_of(each, latency={"call": 100})
        assert [event.type for event in too_late.history if event.type in ("ok", "info")] == ["info"]


@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_deadlock_is_noted_and_raised(kind):
    """With who waits for what, before anything that happens while all is cleared away."""

    async def tasks(claude_tokens, workers):
        async def job():
            try:
                await asyncio.Event().wait()
            finally:
                await ask()

        await workers(job)

    def threads(claude_tokens, workers):
        with suppress(Exception):
            workers(lambda: threading.Event().wait())

    outcome = outcome_of(tasks if kind == "tasks" else threads)
    assert type(outcome.error).__name__ == "Deadlock"
    (note,) = notes(outcome, "deadlock")
    assert len(note.get("waits")) == (3 if kind == "tasks" else 2)
    after = [event.type for event in outcome.history if event.seq > note.seq and event.op]
    assert ("invoke" in after) == (kind == "tasks")


@pytest.mark.parametrize("kind", ["tasks", "threads"])
def test_starvation_is_noted_and_raised(monkeypatch, kind):
    """By time, and by decisions."""
    monkeypatch.setattr(scheduler, "MAX_DECISIONS", 3000)

    async def tasks(claude_tokens, workers):
        await workers(rest, spin)

    async def rest():
        while True:
            await asyncio.sleep(1000)

    async def spin():
        while True:
            await asyncio.sleep(0)

    def threads(claude_tokens, workers):
        workers(rest_in_thread)

    def rest_in_thread():
        while True:
            sleep(1000)

    outcome = outcome_of(tasks if kind == "tasks" else threads)
    assert type(outcome.error).__name__ == "Starvation"
    (note,) = notes(outcome, "starved")
    assert note.get("why") == ("no end after 3,000 decisions" if kind == "tasks" else "no end after 86,400 s")


def test_killed_worker_leaves_its_request_unknown():
    """It is open no more, and nobody waits for it."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def call():
            async with httpx.AsyncClient() as client:
                await client.post(CALL_URL, json=STREAMED, headers=bearer_header(account.access_token))

        async def tick():
            for _ in range(30):
                await asyncio.sleep(1)
                await asyncio.sleep(0)

        await workers(call, tick)

    with explored(body, 2, latency={"call": 20}) as run:
        outcomes = [
            run(
                Schedule(deviations=(Deviation(position, "kill", 0, 1), Deviation(position + 1, "kill", 0, 1)))
            )  # it dies once
            for position in range(20)
        ]
    assert [outcome.error for outcome in outcomes] == [None] * 20
    ends = {tuple(e.error for e in outcome.history if e.type in ("ok", "info")) for outcome in outcomes}
    assert {("killed",)} <= ends <= {("killed",), (None,), ()}
    for outcome in outcomes:
        if any(event.error == "killed" for event in outcome.history):
            assert [event.actor for event in notes(outcome, "kill")] == ["w0"]


# How it waits.


@settings(max_examples=25)
@given(schedules(2))
def test_requests_of_threads_and_tasks_wait_in_simulated_time(schedule):
    """For latency and for the gate, under any schedule; a second one on the same bearer waits for the first."""

    async def tasks(claude_tokens, workers):
        account = claude_tokens.account()

        async def call():
            async with httpx.AsyncClient() as client:
                await client.post(CALL_URL, json=MESSAGE, headers=bearer_header(account.access_token))

        await workers(call)

    def threads(claude_tokens, workers):
        account = claude_tokens.account()
        workers(lambda: httpx.post(CALL_URL, json=MESSAGE, headers=bearer_header(account.access_token)))

    for body in (tasks, threads):
        outcome = outcome_of(body, schedule, latency={"call": 2}, allow=["co-schedule"])
        assert outcome.error is None
        times = [event.t for event in outcome.history if event.type == "ok"]
        assert len(times) == 2
        assert times[1] - times[0] >= 2 or times[1] >= 2


def test_slow_legs_take_what_the_schedule_says():
    """Out, back, and between pieces, in their order; a minute in all."""

    async def body(claude_tokens, workers):
        await ask()
        times.append(monotonic())
        await ask()
        times.append(monotonic())

    times: list[float] = []
    slow = tuple(Deviation(leg, "slow", 0, len(DELAYS) - 1) for leg in range(3))
    outcome_of(body, Schedule(deviations=slow))
    assert times == [60, 60]
    times.clear()
    outcome_of(body, Schedule(deviations=(Deviation(2, "slow", 0, 3),)))
    assert times == [0, DELAYS[3]]


def test_waiter_waits_for_a_signal_or_for_a_while():
    """Whichever comes first; one that has fired is not waited for."""
    with world() as new:
        waiter = SimulatedWaiter(new, DEFAULT_ORDER)
        fired, late = Signal(), Signal()
        fired.fire()
        waiter.wait(Wait("gate", None, fired))
        waiter.wait(Wait("gate", 5, Signal()))
        assert monotonic() == 5
        timer = threading.Timer(3, late.fire)
        timer.start()
        waiter.wait(Wait("gate", 50, late))
        assert monotonic() == 8
        abandoned = Signal()
        waiter.wait(Wait("hold", 1, abandoned))
        abandoned.fire()  # nobody waits any more
        waiter.wait(Wait("latency", 2))
        assert monotonic() == 11

        async def same():
            await waiter.wait_async(Wait("gate", None, fired))
            await waiter.wait_async(Wait("gate", 5, Signal()))
            signal = Signal()
            asyncio.get_running_loop().call_later(3, signal.fire)
            await waiter.wait_async(Wait("gate", 50, signal))
            forever = Signal()
            asyncio.get_running_loop().call_later(1, forever.fire)
            await waiter.wait_async(Wait("gate", None, forever))
            again = Signal()
            await waiter.wait_async(Wait("gate", 1, again))
            again.fire()
            await waiter.wait_async(Wait("latency", 2))
            return monotonic()

        loop = SimulatedLoop(new)
        assert loop.run(same()) == 23
        loop.shut()


def test_deadlock_over_a_bearer_is_told_as_the_services():
    """A thread that waits at the gate says so."""

    def wait():
        with world() as new:
            pass
        del new
        SimulatedWaiter(ACTIVE.world, DEFAULT_ORDER).wait(Wait("gate", 5, Signal()))
        return ACTIVE.world.me().why

    assert run_threads(wait) == ["the gate of the fake service"]


def test_nobody_waits_in_a_world_that_has_ended():
    """A thread that was blocked outside comes back to it too late."""
    with world() as new:
        waiter = SimulatedWaiter(new, DEFAULT_ORDER)
    new.release()
    with pytest.raises(Stopped):
        waiter.wait(Wait("gate", 5, Signal()))


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
