"""What workers do to locks in a run that is watched: they take one, wait for it, give up on it, let it go."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from pytest_claude_tokens.simulation.witness import witnessed
from tests.unit.simulation.worlds import outcome_of

pytestmark = pytest.mark.usefixtures("staged")


def verbs(body: Any) -> list[tuple[str, str]]:
    with witnessed() as witness:
        assert outcome_of(body, workers=2).error is None
    return [(act.worker, f"{act.did} {witness.locks.name(act.key)}") for act in witness.locks.acts]


def test_tasks_wait_for_a_lock_of_asyncio_and_give_up_on_it():
    async def body(workers):
        lock = asyncio.Lock()

        async def job():
            try:
                await asyncio.wait_for(lock.acquire(), 5)
            except TimeoutError:
                return
            await asyncio.sleep(60)
            lock.release()

        await workers(job)

    assert verbs(body) == [
        ("w0", "took Lock 1"),
        ("w1", "waited for Lock 1"),
        ("w1", "gave up on Lock 1"),
        ("w0", "let go of Lock 1"),
    ]


def test_threads_wait_for_a_lock_and_give_up_on_it():
    def body(workers):
        lock = threading.Lock()

        def job():
            if lock.acquire(timeout=5):
                threading.Event().wait(60)
                lock.release()

        workers(job)

    assert verbs(body) == [
        ("w0", "took Lock 1"),
        ("w1", "waited for Lock 1"),
        ("w1", "gave up on Lock 1"),
        ("w0", "let go of Lock 1"),
    ]


def test_a_lock_file_that_is_taken_over(tmp_path):
    path = tmp_path / "login.lock"

    def body(workers):
        path.unlink(missing_ok=True)

        def job():
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                threading.Event().wait(60)
            except FileExistsError:
                os.unlink(path)

        workers(job)

    name = "login.lock"
    assert verbs(body) == [("w0", f"took {name}"), ("w1", f"found taken: {name}"), ("w1", f"took from w0: {name}")]
