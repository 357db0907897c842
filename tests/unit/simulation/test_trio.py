"""trio in threads of a search: simulated time, chance from the schedule, verdicts as for any other client."""

from __future__ import annotations

import importlib
import threading
import time
from random import Random
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.simulation import trio_runs
from pytest_claude_tokens.simulation.native import REAL_START, native
from pytest_claude_tokens.simulation.thread_record import Stopped
from pytest_claude_tokens.violations import CoSchedule, Deadlock, DoubleSpend
from tests.unit.explore.common import CALL_URL, TOKEN_URL, refreshing, search
from tests.unit.simulation.worlds import run_threads, stage

trio = pytest.importorskip("trio")
quick = settings(database=None, derandomize=True, max_examples=20)


@pytest.mark.parametrize(
    ("module", "name", "remedy"),
    [
        ("trio._core._run", "_r", "find the generator of a run's choices, for trio_generator"),
        ("trio._core._run", "_ALLOW_DETERMINISTIC_SCHEDULING", "find what makes a run sort its tasks"),
        ("trio._core._run", "TheIOManager", "find the class that waits for the operating system"),
        ("trio._core._run", "start_thread_soon", "find what starts the threads of to_thread.run_sync"),
        ("trio._threads", "start_thread_soon", "find what starts the threads of to_thread.run_sync"),
        ("trio._core._wakeup_socketpair", "WakeupSocketpair", "find what wakes a run from another thread"),
    ],
)
def test_private_name_is_still_there(module, name, remedy):
    """A canary for each."""
    assert hasattr(importlib.import_module(module), name), f"{module}.{name} is gone: {remedy}, in trio_runs.py"


def test_methods_are_still_there():
    """Of the classes that are changed while a search lasts."""
    core, wakeup = trio_runs._core(), importlib.import_module("trio._core._wakeup_socketpair")
    assert callable(core.TheIOManager.get_events)
    assert callable(wakeup.WakeupSocketpair.wakeup_thread_and_signal_safe)
    assert isinstance(trio_runs.trio_generator(), Random)

    async def main():
        core.GLOBAL_RUN_CONTEXT.runner.system_nursery.cancel_scope.cancel()
        assert core.TheIOManager.statistics
        await trio.sleep_forever()

    with pytest.raises(trio.Cancelled):
        trio.run(main)


def test_nothing_is_done_without_trio(monkeypatch):
    """It is not imported for us."""
    monkeypatch.setattr(trio_runs, "_modules", {})
    assert trio_runs.trio_generator() is None
    with trio_runs.trio_simulated():
        pass


def searched(job, *, workers=2):
    """What came of a search of one job, given the tokens, as a run of trio in each worker."""

    def test_it(claude_tokens, workers):
        run = job(claude_tokens)
        workers(lambda: trio.run(run))

    return search(quick(explore(workers=workers)(test_it)))


def spending(lock):
    """A dispatcher that refreshes under a lock of all threads, or under none."""

    def job(tokens):
        account = tokens.account(expired=True)
        store = {"refresh": account.refresh_token}

        async def refresh():
            async with httpx.AsyncClient() as client:
                reply = await client.post(TOKEN_URL, json=refreshing(store["refresh"]))
            store["refresh"] = reply.json().get("refresh_token")

        async def main():
            await trio.sleep(30)
            if lock is None:
                await refresh()
                return
            await trio.to_thread.run_sync(lock.acquire)
            if store["refresh"] == account.refresh_token:
                await refresh()
            lock.release()

        return main

    return job


def test_planted_bug_is_found_and_its_clean_twin_spared():
    """With the same story and the same replay as for threads without trio."""
    found = searched(spending(None))
    assert type(found.error) is DoubleSpend
    assert found.found.replayed == (3, 3)
    assert searched(spending(threading.Lock())).error is None


def test_overlap_of_two_workers_is_found():
    """A call waits for its turn in trio's own way, and goes on when the other one has ended."""

    def job(tokens):
        bearer = tokens.account().access_token

        async def main():
            body = {"model": "claude", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
            async with httpx.AsyncClient() as client:
                reply = await client.post(CALL_URL, json=body, headers={"authorization": f"Bearer {bearer}"})
            assert reply.status_code == 200

        return main

    assert type(searched(job).error) is CoSchedule


async def shielding():
    """It does not end when it is cancelled."""
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


def test_run_that_does_not_end_is_given_up(monkeypatch):
    """Its tasks go on whenever they are cancelled."""

    class Task:
        """A task outside of all scopes."""

        _cancel_status = None

    task, cancelled = Task(), []
    nursery = SimpleNamespace(cancel_scope=SimpleNamespace(cancel=lambda: cancelled.append(1)))
    runner = SimpleNamespace(system_nursery=nursery, tasks=[task], main_task=task)
    core = SimpleNamespace(GLOBAL_RUN_CONTEXT=SimpleNamespace(runner=runner))
    monkeypatch.setattr(trio_runs, "_modules", {"trio._core._run": core})
    with pytest.raises(Stopped):
        for _ in range(1_000):
            trio_runs._end_run()
    assert len(cancelled) == 101


@pytest.mark.parametrize("main", [trio.sleep_forever, shielding])
def test_run_in_which_nothing_can_go_on_is_a_deadlock(main):
    """It is told at once, in a worker and in the body; and the run ends in its own way."""
    assert type(searched(lambda _: main).error) is Deadlock

    def test_body(claude_tokens, workers):
        trio.run(trio.sleep_forever)

    assert type(search(quick(explore(workers=2)(test_body))).error) is Deadlock


def test_time_is_simulated_in_all_of_it():
    """Sleeps, deadlines and jobs in other threads take simulated time; one that waits for a real socket waits there."""

    def job():
        async def main():
            with trio.move_on_after(5):
                await trio.sleep_forever()
            assert await trio.to_thread.run_sync(lambda: time.sleep(7) or "done") == "done"
            near, far = trio.socket.socketpair()
            timer = threading.Timer(0.1, near._sock.send, [b"x"])
            with native():
                REAL_START(timer)  # in no world
            assert await far.recv(1) == b"x"
            near.close()
            far.close()
            return time.monotonic()

        begun = time.monotonic()
        ended = trio.run(main)
        return ended - begun

    before = time.monotonic()
    with stage():
        assert run_threads(job) == [12]
    assert time.monotonic() - before < 10


def test_threads_outside_of_a_world_run_it_as_ever():
    """In real time, while a search goes on in others."""
    seen = []

    async def main():
        with trio.move_on_after(0.001):
            await trio.sleep_forever()
        seen.append(await trio.to_thread.run_sync(lambda: 7))

    with stage():
        trio.run(main)
    assert seen == [7]
