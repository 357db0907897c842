"""The examination itself: by processes, by a stand-in where there is no layout, in threads, with failures in play."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from fake_server import Fault
from pytest_claude_tokens import layouts
from pytest_claude_tokens.layouts import LAYOUTS
from pytest_claude_tokens.search.alone import run_once
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER
from pytest_claude_tokens.violations import CoSchedule, Unknown
from pytest_claude_tokens.workarounds import explored, processes, table, workaround
from pytest_claude_tokens.workarounds.cost import cost_of
from pytest_claude_tokens.workarounds.examine import examine, replay
from pytest_claude_tokens.workarounds.explored import Situation
from pytest_claude_tokens.workarounds.registry import named
from tests.unit.workarounds.mine import PROMPT, URL


def layout(name):
    """Skips the test where this machine can't make the layout."""
    if LAYOUTS[name].obstacle is not None:
        pytest.skip(LAYOUTS[name].obstacle)


def test_copies_of_a_login_break_in_processes_and_again_in_the_replay():
    """Both present one refresh token, whoever is first."""
    found = examine(named("copied-credentials"), schedules=1)
    assert (found.examined, found.schedules, found.failed) == ("processes", 3, "")
    assert found.invariants["double-spend"] == "breaks"
    assert found.invariants["lost-rotation"] == "holds"  # it is in question: there are stores
    broken = replay(named("copied-credentials"), found.replay["double-spend"])
    assert "double-spend" in [violation.invariant for violation, _ in broken]
    assert all(story.startswith("again ") for _, story in broken)
    with pytest.raises(ValueError, match="made for processes, and none runs none"):
        replay(named("none"), found.replay["double-spend"])


@pytest.mark.nightly
def test_the_wrapper_of_whole_invocations_holds_in_processes():
    """As sound as a queue: the table's soak says so on ten seeds."""
    layout("flock-wrapper")
    assert "breaks" not in examine(named("flock-wrapper"), schedules=1).invariants.values()


def test_a_stand_in_breaks_as_its_layout_does(monkeypatch):
    """Where the layout can't be made, threads that do the same are examined, and the row says so."""
    name = "container-home"
    can_t = layouts.Layout(name, "", lambda site: [], lambda: "no mounts here")
    monkeypatch.setattr("pytest_claude_tokens.workarounds.examine.LAYOUTS", {name: can_t})
    row = table.made(named(name), schedules=2, seed=1)
    assert row.found.examined == "simulated"
    assert "double-spend" in row.broken
    assert row.says.endswith("a simulated stand-in was examined, as the layout can't be made here: no mounts here")
    assert table.text(row, [name], "claude-tokens workarounds")[-1].endswith("no mounts here")


def test_processes_that_could_not_be_judged_or_never_met_give_no_verdict(monkeypatch):
    """What did not break is unknown, not sound."""

    class Outcome:
        raced = False
        mild = None
        error: Exception | None = None

        class history:
            operations = ()

        def fingerprint(self):
            return 1

    class Stage:
        def __init__(self, plan, context):
            pass

        def __enter__(self):
            return lambda schedule, arguments: Outcome()

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(processes, "stage", Stage)
    found = processes.examine_processes(named("symlinked-dir"), 0)
    assert found.failed == "no two processes were at work at once"
    assert set(found.invariants.values()) == {"unknown"}
    assert replay(named("symlinked-dir"), processes._token(processes.DEFAULT_ORDER)) == []
    Outcome.error = Unknown("stuck")
    assert processes.examine_processes(named("symlinked-dir"), 0).failed == "Unknown: stuck"
    Outcome.error, Outcome.raced = None, True
    assert "breaks" not in processes.examine_processes(named("symlinked-dir"), 0).invariants.values()


def test_a_token_of_another_test_is_refused():
    """Two workers are not three."""
    token = Replay(kind="tasks", workers=2, schedule=DEFAULT_ORDER).token()
    with pytest.raises(ValueError, match="was made for 2 workers as tasks"):
        replay(named("none"), token)


def test_agents_that_share_a_lock_send_one_token_request():
    """The second finds what the first has stored."""
    body = explored._body(named("shared-config-dir"), Situation("expired", 1, expired=True))
    outcome = run_once(body, explored.WORKERS, allow=["co-schedule"])
    assert outcome.error is None
    assert [one.refresh for one in outcome.history.operations if one.f == "token"] == ["rt#1"]


class Loses:
    """A pool that forgets a token when a call fails."""

    def __init__(self, accounts):
        self.free = asyncio.Queue()
        for account in accounts:
            self.free.put_nowait(account)

    async def call(self):
        account = await self.free.get()
        async with httpx.AsyncClient(timeout=600) as client:
            reply = await client.post(URL, headers={"Authorization": f"Bearer {account.access_token}"}, json=PROMPT)
        reply.raise_for_status()
        self.free.put_nowait(account)


def test_failures_are_in_play_if_a_workaround_asks_for_them():
    """A 529 costs this pool a token, until nobody gets one any more; without failures it is sound."""
    workaround("loses", accounts=1, faults=[Fault.status(529)])(Loses)
    found = examine(named("loses"), schedules=8, seed=1)
    assert found.invariants["starvation"] == "breaks"
    assert [one for one in found.in_play if one.startswith("fault ")] == [f"fault {Fault.status(529)}"]
    workaround("sound-without", accounts=1)(type("Copy", (Loses,), {}))
    assert "breaks" not in examine(named("sound-without"), schedules=4, seed=1).invariants.values()


def test_cancelled_jobs_are_in_play_if_a_workaround_asks_for_them():
    """Then outcomes can be unknown, and the invariant on them is in question."""
    workaround("cancelled", accounts=1, cancel=True)(Loses)
    found = examine(named("cancelled"), schedules=12, seed=1)
    assert found.invariants["starvation"] == "breaks"
    assert found.unknown_outcomes
    assert "cancellation" in found.in_play


def test_a_plain_call_makes_threads_and_what_they_break_is_found():
    """The same body, with threads for workers."""

    class InThreads:
        def __init__(self, accounts):
            self.accounts = accounts

        def call(self):
            headers = {"Authorization": f"Bearer {self.accounts[0].access_token}"}
            httpx.Client(timeout=600).post(URL, headers=headers, json=PROMPT)

    workaround("in-threads", accounts=2)(InThreads)
    with pytest.raises(CoSchedule):
        explored.as_test(InThreads)(situation=Situation("live", 2, expired=False))
    found = examine(named("in-threads"), schedules=2, seed=1)
    assert found.invariants["co-schedule"] == "breaks"
    assert found.invariants["double-spend"] == "n/a"  # it refreshes nothing
    assert cost_of(named("in-threads")).p100 == 14


def test_one_that_needs_an_account_for_each_worker_is_not_blamed_for_having_fewer():
    """It says so by an exception, and only the other situations count."""

    class Strict:
        def __init__(self, accounts):
            self.unused = list(accounts)
            self.mine = {}

        async def call(self):
            me = asyncio.current_task()
            account = self.mine.get(me) or self.mine.setdefault(me, self.unused.pop())
            async with httpx.AsyncClient(timeout=600) as client:
                await client.post(URL, headers={"Authorization": f"Bearer {account.access_token}"}, json=PROMPT)

    workaround("strict")(Strict)
    found = examine(named("strict"), schedules=3, seed=1)
    assert found.failed == ""
    assert "breaks" not in found.invariants.values()
    assert [one for one in found.in_play if "login" in one] == ["3 live logins for 3 workers"]


def test_part_of_a_verdict_can_be_unknown():
    """A row that breaks, and whose rest could not be examined, says both."""
    found = examine(named("none"), schedules=2, seed=1)
    found.failed = "Unknown: stuck"
    row = table.Row(workaround=named("none"), found=found, cost=None)
    assert row.state == "breaks"
    assert row.says.endswith("; of the rest nothing is known: Unknown: stuck")
    assert found.invariants["starvation"] == "unknown"
