"""How the runner ends a run: open requests, deadlocks, starvation, and what a killed worker leaves."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import suppress
from time import sleep  # in a world: simulated seconds, which pass at once

import httpx
import pytest

from pytest_claude_tokens.simulation import scheduler
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from tests.unit.simulation.worlds import ask, explored, notes, outcome_of
from tests.zoo.common import (
    CALL_URL,
    MESSAGE,
    STREAMED,
    bearer_header,
)

pytestmark = pytest.mark.usefixtures("staged")


def test_open_requests_have_a_minute_to_end():
    """After the body, and as long again as the search may hold them up; then they are given up."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def call():
            async with httpx.AsyncClient(timeout=None) as client:
                with suppress(httpx.HTTPError):
                    await client.post(CALL_URL, json=MESSAGE, headers=bearer_header(account.access_token))

        tasks.append(asyncio.create_task(call()))
        await asyncio.sleep(1)

    def threads(claude_tokens, workers):
        account = claude_tokens.account()
        threading.Thread(
            target=httpx.post,
            args=[CALL_URL],
            kwargs={"json": MESSAGE, "timeout": None, "headers": bearer_header(account.access_token)},
            daemon=True,
        ).start()
        sleep(1)

    tasks: list = []
    for each in (body, threads):
        in_time = outcome_of(each, latency={"call": 30})
        assert [event.type for event in in_time.history if event.type in ("ok", "info")] == ["ok"]
        too_late = outcome_of(each, latency={"call": 130})
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
    """By time, and by decisions; with the lines at which they were."""
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
    pattern = (
        r"w0 waits at \S+:\d+ in rest, w1 waits at \S+:\d+ in spin: no end after 3,000 decisions without progress"
        if kind == "tasks"
        else r"w0 is at \S+:\d+ in rest_in_thread, w1 is at \S+:\d+ in rest_in_thread: no end after 86,400 s"
    )
    assert re.fullmatch(pattern, note.get("why"))


def test_killed_worker_leaves_its_request_unknown():
    """It is open no more, and nobody waits for it."""

    async def body(claude_tokens, workers):
        account = claude_tokens.account()

        async def call():
            async with httpx.AsyncClient(timeout=60) as client:
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
