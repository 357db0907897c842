"""``explore(slow=…)``: how long workers and replies may be held up, what that finds, and how it is told."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.search.delays import told_delays
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.violations import DoubleSpend
from tests.unit.explore.common import quick, search
from tests.zoo.common import Login, redeem, redeem_now

PATIENT = 3000
"""Seconds for which the clients here wait for a reply."""


class Leased:
    """One row, leased for so many seconds by whoever refreshes it; the others look again ten times meanwhile."""

    def __init__(self, account, lease):
        self.login = Login.of(account.credentials)
        self.lease, self.until = lease, 0.0

    def take(self):
        self.until = time.time() + self.lease
        return self.until

    def give_back(self, mine):
        if self.until == mine:
            self.until = 0.0

    async def ask(self):
        while time.time() < self.until:
            await asyncio.sleep(self.lease / 10)
        mine = self.take()
        if self.login.expired:
            self.login = await redeem(self.login.refresh, timeout=PATIENT)
        self.give_back(mine)

    def ask_now(self):
        while time.time() < self.until:
            time.sleep(self.lease / 10)
        mine = self.take()
        if self.login.expired:
            self.login = redeem_now(self.login.refresh, timeout=PATIENT)
        self.give_back(mine)


def tasks(lease, slow, **options):
    """The search for what such a lease does not survive."""

    @settings(quick, max_examples=200)
    @explore(workers=2, slow=slow, **options)
    async def test(claude_tokens, workers):
        await workers(Leased(claude_tokens.account(expired=True), lease).ask)

    return test


def threads(lease, slow, **options):
    @settings(quick, max_examples=200)
    @explore(workers=2, slow=slow, preempt=False, **options)  # between two of its lines it is a race, with any lease
    def test(claude_tokens, workers):
        workers(Leased(claude_tokens.account(expired=True), lease).ask_now)

    return test


@pytest.mark.parametrize("kind", [tasks, threads])
@pytest.mark.parametrize(("lease", "slow"), [(4, 5), (60, 61), (600, 601), (600, 3600)])
def test_a_lease_is_found_that_is_shorter(kind, lease, slow):
    """By a second, or by far; and it is told who was slow, for how long, and which lease is too short for that."""
    result = search(kind(lease, slow))
    assert type(result.error) is DoubleSpend
    (held,) = (line for line in result.found.remarks() if "does not survive" in line)
    told = re.fullmatch(
        r"w0 (?:was slow for (\d+) s: suspended, starved or swapped out|waited (\d+) s longer for its replies)"
        r"; a lease of (\d+) s does not survive that",
        held,
    )
    assert lease <= int(told[1] or told[2]) == int(told[3]) + 1 <= lease + 2
    assert Replay.read(result.found.token).slow == slow
    again = search(kind(lease, 1), replay=result.found.token)  # whatever the test says by now
    assert type(again.error) is DoubleSpend


@pytest.mark.parametrize("kind", [tasks, threads])
@pytest.mark.parametrize(("lease", "slow"), [(5, 5), (60, 60), (600, 600), (1, 0)])
def test_one_that_is_as_long_is_spared_and_the_summary_says_how_long(kind, lease, slow):
    """Its author claims no more."""
    result = search(kind(lease, slow))
    assert result.error is None
    assert result.report.text().endswith(f", delays up to {slow} s" if slow else ", no delays")


@pytest.mark.parametrize("kind", [tasks, threads])
@pytest.mark.parametrize("bound", [1, 2])
def test_systematic_search_counts_a_slow_reply_as_a_deviation(kind, bound):
    """So one is enough for a lease that is shorter, and none for one that isn't."""
    result = search(kind(10, 60, exhaustive=bound))
    assert type(result.error) is DoubleSpend
    assert len(result.found.schedule.deviations) == 1
    result = search(kind(60, 60, exhaustive=1))
    assert result.error is None
    assert result.report.text().endswith(": all with at most 1 deviation, 1 of 1 race both ways, delays up to 60 s")


def test_systematic_search_counts_a_slow_worker_as_a_deviation():
    """One that has no request under way: it writes down what it was given after it was suspended."""

    class Late(Leased):
        async def ask(self):
            while time.time() < self.until:
                await asyncio.sleep(1)
            mine = self.take()
            refresh = self.login.refresh if self.login.expired else None
            await asyncio.sleep(0)
            if refresh is not None:
                self.login = await redeem(refresh, timeout=0.5)
            self.give_back(mine)

    @explore(workers=2, exhaustive=1)
    async def test(claude_tokens, workers):
        await workers(Late(claude_tokens.account(expired=True), 10).ask)

    result = search(test)
    assert type(result.error) is DoubleSpend
    (deviation,) = result.found.schedule.deviations
    assert deviation.what == "freeze"
    assert re.search(
        "^w0 was slow for [\\d.]+ s: suspended, starved or swapped out; a lease", result.found.remarks()[2]
    )


def test_delays_are_not_told_where_nothing_waits():
    """A body without timers has no lease that could end."""

    @settings(quick, max_examples=20)
    @explore(workers=2)
    async def test(claude_tokens, workers):
        login, lock = Login.of(claude_tokens.account(expired=True).credentials), asyncio.Lock()

        async def ask():
            nonlocal login
            async with lock:
                login = await redeem(login.refresh) if login.expired else login

        await workers(ask)

    assert "delay" not in search(test).report.text()


def test_what_is_told_of_delays():
    """Those of a second and more, the longest first, and what it means of those that outlast a short lease."""
    held = [
        (0, "slow", 30.5),
        (0, "slow", 0.5),
        (1, "reply", 2.0),
        (1, "request", 0.5),
        (-1, "slow", 1.0),
        (2, "slow", 0.9),
    ]
    assert told_delays(held) == [
        "w0 was slow for 31 s: suspended, starved or swapped out; a lease of 30 s does not survive that",
        "w1 waited 2.5 s longer for its replies",
        "the body was slow for 1 s: suspended, starved or swapped out",
    ]
    assert told_delays([(0, "slow", 1.5)]) == ["w0 was slow for 1.5 s: suspended, starved or swapped out"]
    assert told_delays([]) == []


@pytest.mark.parametrize("slow", [-1, float("nan"), float("inf"), 86_401, True, "60", None])
def test_it_is_a_number_of_seconds_up_to_a_day(slow):
    with pytest.raises(ValueError, match=r"explore\(slow=.*\): must be the seconds by which a run may be held up"):
        explore(slow=slow)


def test_processes_take_real_time():
    with pytest.raises(TypeError, match="with processes=True time is real"):
        explore(processes=True, slow=5)
