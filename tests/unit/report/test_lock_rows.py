"""What workers did to locks, as rows between the events of a run, and in the table of its story."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import settings

from fake_server.protocol.actors import as_worker
from pytest_claude_tokens import explore
from pytest_claude_tokens.report.accessed import acts_before, merged
from pytest_claude_tokens.report.table import table
from pytest_claude_tokens.search.context import ExplorationContext
from pytest_claude_tokens.simulation.held_locks import HeldLocks
from tests.zoo.common import redeem
from tests.zoo.outside import error_of

LINE = compile("", "pool.py", "exec"), 9


def at(worker: str, act: Any, *args: Any) -> None:
    with as_worker(worker):
        act(*args)


def told(locks: HeldLocks, before: dict[int, int], guilty: tuple[int, ...] = ()) -> dict[int, list[str]]:
    rows = merged(acts_before(locks, before, guilty))
    return {seq: [" ".join(filter(None, row.values())) for row in found] for seq, found in rows.items()}


def test_each_act_stands_before_the_event_that_followed():
    locks, lock = HeldLocks(lambda: 0.0), SimpleNamespace()
    key = locks.object(lock, "Lock")
    at("w0", locks.got, key, LINE)
    at("w1", locks.waits, key, LINE)
    at("w0", locks.let_go, key, LINE)
    at("w1", locks.got, key, LINE)
    assert told(locks, {1: 0, 2: 2, 3: 3}) == {
        2: ["w0 took Lock 1 pool.py:9", "w1 waited for Lock 1 pool.py:9"],
        3: ["w0 let go of Lock 1 pool.py:9"],
    }


def test_a_worker_does_not_wait_for_what_it_holds_itself():
    """It enters a lock again that may be; what it let go before counts no more."""
    locks = HeldLocks(lambda: 0.0)
    key = locks.object(SimpleNamespace(), "Lock")
    for act in (locks.got, locks.waits, locks.let_go, locks.waits):
        at("w0", act, key, LINE)
    assert [act.did for act in locks.acts] == ["took", "let go of", "waited for"]


def test_who_tries_again_and_again_is_told_once():
    locks = HeldLocks(lambda: 0.0)
    key = locks.path("/tmp/login.lock")
    at("w0", locks.got, key, LINE)
    for _ in range(3):
        at("w1", locks.missed, key, LINE)
    at("w1", locks.let_go, key, LINE)
    locks.let_go(key, LINE)  # by nobody: the test itself
    assert told(locks, {1: 9}) == {
        1: [
            "w0 took login.lock pool.py:9",
            "w1 found taken: login.lock pool.py:9",
            "w1 took from w0: login.lock pool.py:9",
        ]
    }


def test_what_the_test_itself_does_to_a_lock_is_no_act_of_a_worker():
    """It may let go for one, and want one."""
    locks = HeldLocks(lambda: 0.0)
    key = locks.object(SimpleNamespace(), "Lock")
    at("w0", locks.got, key, LINE)
    locks.waits(key, LINE)
    locks.let_go(key, LINE)
    at("w1", locks.got, key, LINE)
    assert [(act.worker, act.did) for act in locks.acts] == [("w0", "took"), ("w1", "took")]


def test_of_many_acts_those_near_the_requests_at_fault_are_told():
    locks = HeldLocks(lambda: 0.0)
    for number in range(40):
        key = locks.object(SimpleNamespace(), "Lock")
        at(f"w{number % 2}", locks.got, key, LINE)
    rows = told(locks, {1: 0, 2: 20, 3: 40}, (2,))
    assert [len(rows[2]), len(rows[3])] == [6, 6]
    assert rows[2][-1] == "w1 took Lock 20 pool.py:9"
    last = told(locks, {1: 0, 2: 20, 3: 40})
    assert [*last] == [3]
    assert last[3][-1] == "w1 took Lock 40 pool.py:9"


def test_a_path_that_nobody_used_as_a_lock_has_no_row():
    locks = HeldLocks(lambda: 0.0)
    at("w0", locks.got, locks.path("/tmp/folder"), LINE)
    assert told(locks, {1: 5}) == {}


def test_acts_and_accesses_stand_in_the_order_in_which_the_run_did_them():
    early, late = {"what": "early"}, {"what": "late"}
    assert merged({2: [(7, late)]}, {2: [(5, early)], 1: [(0, late)]}) == {1: [late], 2: [early, late]}


class OneLockForEachStep:
    """Reads the token under the lock, and stores the new one under it; what lies between is not."""

    def __init__(self, token: str) -> None:
        self.lock, self.token = asyncio.Lock(), token

    async def refresh(self) -> None:
        async with self.lock:
            token = self.token
        login = await redeem(token)
        async with self.lock:
            self.token = login.refresh


def test_the_table_of_a_search_shows_them_in_the_columns_of_their_workers():
    async def refreshing(claude_tokens, workers):
        await workers(OneLockForEachStep(claude_tokens.account("a").refresh_token).refresh)

    test = settings(max_examples=5, database=None, derandomize=True)(explore(workers=2)(refreshing))
    found: Any = error_of(test, ExplorationContext())
    rows = [row[20:] for row in table(found.claude_tokens_found.history, {2})]
    here = Path(__file__).name
    read = inspect.getsourcelines(OneLockForEachStep.refresh)[1] + 1
    sent = inspect.getsourcelines(redeem)[1] + 3
    assert rows[2:8] == [
        f"took Lock 1 {here}:{read}",
        f"let go of Lock 1 {here}:{read}",
        f"refresh rt#1 ... common.py:{sent}",
        " " * 23 + f"took Lock 1 {here}:{read}",
        " " * 23 + f"let go of Lock 1 {here}:{read}",
        " " * 23 + f"refresh rt#1 ... common.py:{sent}",
    ]


def test_a_path_is_told_by_its_last_part_and_its_folder_where_another_is_called_the_same():
    locks = HeldLocks(lambda: 0.0)
    one, two, own = (locks.path(f"/homes/{name}") for name in ("a1/login.lock", "a2/login.lock", "a1/own.lock"))
    assert [locks.name(key) for key in (one, two, own)] == ["a1/login.lock", "a2/login.lock", "own.lock"]
