"""Replay tokens as tests obey them: byte for byte, for the test they were made for, and only while the bug lives."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.errors import DidNotReproduce

from fake_server import Fault, Policy
from pytest_claude_tokens import explore
from pytest_claude_tokens.judge.history import History
from pytest_claude_tokens.search.confirm import compare
from pytest_claude_tokens.search.replay import BadToken, Replay
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER
from pytest_claude_tokens.violations import (
    BlindReplay,
    CoSchedule,
    DoubleSpend,
    ForcedLogin,
    Nondeterministic,
    Unknown,
)
from tests.unit.explore.common import TOKEN_URL, Login, hello, refreshing, search, sound, unsound
from tests.zoo.common import CALL_URL, MESSAGE, bearer_header

quick = settings(database=None, derandomize=True, max_examples=100)


def lines(found):
    """The history, header and all, as the file has it."""
    return [event.to_json() for event in (found.history.header, *found.history)]


async def tasks(claude_tokens, workers):
    """Found in default order."""
    await workers(unsound(claude_tokens).token)


def threads(claude_tokens, workers):
    """Found where one is switched between check and use."""
    login = {"secret": claude_tokens.account(expired=True).refresh_token, "fresh": False}
    lock = threading.Lock()

    def refresh():
        if not login["fresh"]:
            with lock:
                httpx.post(TOKEN_URL, json=refreshing(login["secret"]))
                login["fresh"] = True

    workers(refresh)


async def drawn(claude_tokens, workers, steps, n):
    """Uses its arguments up."""
    while steps:
        time.sleep(steps.pop())
    await workers((unsound if n > 20 else sound)(claude_tokens).token)


STEPS = {"steps": st.lists(st.integers(1, 3)), "n": st.integers(0, 50)}


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (tasks, {}),
        (threads, {}),
        (drawn, STEPS),
        (tasks, {"exhaustive": 1}),
        (tasks, {"faults": [Fault.RESET, Fault.status(503)], "kills": True, "cancel": True}),
    ],
    ids=["tasks", "threads", "strategies", "exhaustive", "faults"],
)
def test_a_token_gives_the_same_history_byte_for_byte(body, options):
    """And the same failure, the same token, the same arguments."""
    test = quick(explore(**options)(body))
    first = search(test)
    again = search(test, replay=first.found.token)
    assert isinstance(first.error, DoubleSpend)
    assert str(again.error) == str(first.error)
    assert lines(again.found) == lines(first.found)
    assert again.found.token == first.found.token
    assert again.notes == first.notes
    assert first.found.replayed == again.found.replayed == (3, 3)


def test_a_token_holds_the_policy_that_the_failure_met():
    """Whatever made it: a marker, a fixture's parameter, a variable of the environment."""

    @quick
    @explore()
    async def test_it(claude_tokens, workers):
        await workers(unsound(claude_tokens).token)

    policy = Policy.keycloak(max_reuse=0).but(scopes=frozenset({"a", "b"}), latency={"token": 0.5})
    first = search(test_it, handle={"policy": policy, "latency": 2.0})
    assert isinstance(first.error, (DoubleSpend, ForcedLogin))
    assert lines(search(test_it, replay=first.found.token).found) == lines(first.found)


def test_a_policy_comes_back_from_its_token():
    """Endless windows and sets of scopes included."""
    for policy in (Policy(), Policy.keycloak(3), Policy(scopes=frozenset("ab")), Policy(latency={"call": 2.0})):
        token = Replay(kind="tasks", workers=2, schedule=DEFAULT_ORDER, policy=policy.to_dict()).token()
        assert Replay.read(token).policy_again() == policy


def test_the_replay_of_a_mended_bug_passes():
    """The schedule is obeyed as far as the code follows it."""
    planted, mended = (
        quick(explore()(threads)),
        quick(explore()(lambda claude_tokens, workers: workers(lambda: httpx.get(TOKEN_URL)))),
    )
    assert search(mended, replay=search(planted).found.token).error is None


@pytest.mark.parametrize(
    ("body", "options", "has"),
    [
        (threads, {}, "2 workers as threads"),
        (tasks, {"workers": 3}, "3 workers as tasks"),
        (drawn, STEPS, "2 workers as tasks and the strategies n, steps"),
    ],
)
def test_the_token_of_another_test_is_refused(body, options, has):
    """With what it was made for, what this test has, and the token last: it is long."""
    token = search(quick(explore()(tasks))).found.token
    error = search(explore(**options)(body), replay=token).error
    assert type(error) is ValueError
    assert str(error) == (
        f"the replay token was made for 2 workers as tasks, and this test has {has}: give it to the test that printed "
        f"it ({token})"
    )


def test_a_damaged_token_is_refused():
    """As on the command line."""
    error = search(explore()(tasks), replay="ct1-nonsense").error
    assert isinstance(error, BadToken)


def test_a_token_whose_arguments_cannot_be_drawn_any_more_says_so():
    """The strategies have changed since, or the explicit example is gone."""

    def made(strategy, body=unsound):
        async def test_it(claude_tokens, workers, n):
            await workers(body(claude_tokens).token)

        return quick(explore(n=strategy)(test_it))

    token = search(made(st.integers(0, 5))).found.token
    error = search(made(st.integers(0, 5).filter(lambda n: n > 9)), replay=token).error
    assert isinstance(error, DidNotReproduce)
    assert "the strategies can't draw the arguments of this failure any more" in str(error)
    replay = Replay(kind="tasks", workers=2, schedule=DEFAULT_ORDER, names=("n",), example=1)
    error = search(made(st.integers(0, 5)), replay=replay.token()).error
    assert isinstance(error, DidNotReproduce)
    assert "there is no @example number 1 any more" in str(error)


def test_lazy_arguments_are_drawn_anew_for_each_repeat():
    """What the body draws itself, from ``st.data()`` or a drawn function, comes again, too."""

    @quick
    @explore(data=st.data())
    async def test_it(claude_tokens, workers, data):
        n = data.draw(st.integers(0, 50))
        await workers((unsound if n > 20 else sound)(claude_tokens).token)

    first = search(test_it)
    assert isinstance(first.error, DoubleSpend)
    assert first.found.replayed == (3, 3)
    assert lines(search(test_it, replay=first.found.token).found) == lines(first.found)


# What can't be repeated.


def test_runs_that_differ_are_said_to():
    """With the first event that does, instead of a failure that comes and goes."""
    runs = []

    @quick
    @explore()
    async def test_it(claude_tokens, workers):
        runs.append(1)
        login = sound(claude_tokens)
        if len(runs) % 2:
            await login.refresh()
        await workers(login.token)
        await workers(hello)

    result = search(test_it)
    assert type(result.error) is Nondeterministic
    assert str(result.error).startswith(
        "two runs of one schedule differ at event #2: task-1 token invoke rt#1 at 0 s | "
    )
    assert result.report.schedules == 100


def test_failures_that_differ_are_said_to():
    """Here only the body's own verdict changes from run to run, and the history is the same."""
    runs = []

    @quick
    @explore()
    async def test_it(claude_tokens, workers):
        runs.append(1)
        await workers(hello)
        if len(runs) > 3:
            raise ValueError if len(runs) % 2 else KeyError

    result = search(test_it)
    assert type(result.error) is Nondeterministic
    assert "two runs of one schedule have the same history, and differ: " in str(result.error)


def test_a_failure_that_comes_once_is_nondeterministic_not_flaky():
    """Hypothesis would say ``Flaky``; which event differs helps more."""
    runs = []

    @quick
    @explore(n=st.integers(0, 3))
    async def test_it(claude_tokens, workers, n):
        runs.append(1)
        await workers(hello)
        if len(runs) == 5:
            raise ValueError

    error = search(test_it).error
    assert type(error) is Nondeterministic
    assert str(error) == "two runs of one schedule have the same history, and differ: ValueError | passed"


def test_one_that_ends_where_the_other_goes_on_is_told_as_nothing_more():
    """The shorter history has no event there."""
    outcome = search(quick(explore()(tasks))).found.best.outcome
    shorter = replace(outcome, history=History(outcome.history.header, list(outcome.history)[:3]))
    with pytest.raises(Nondeterministic) as raised:
        compare(outcome, shorter)
    assert str(raised.value).endswith("differ at event #4: service commit note rt#1 at 0 s | nothing more")
    compare(shorter, shorter)


@pytest.mark.parametrize("violation", [False, True])
def test_a_stuck_worker_is_unknown_and_tried_once(monkeypatch, violation):
    """Each run of it takes seconds: it is neither shrunk nor repeated, but can be replayed. What it broke is told."""
    monkeypatch.setattr("pytest_claude_tokens.runs.watchdog.STUCK_TIMEOUT_SECONDS", 0.2)
    runs = []

    @quick
    @explore()
    def test_it(claude_tokens, workers):
        runs.append(1)
        read, write = os.pipe()
        account = claude_tokens.account("a", setup_token=True)

        def job():
            if violation:
                with httpx.Client() as http:
                    http.post(CALL_URL, headers=bearer_header(account.access_token), json=MESSAGE)
            os.read(read, 1)

        try:
            workers(job)
        finally:
            os.close(write)
            os.close(read)

    result = search(test_it)
    assert type(result.error) is (CoSchedule if violation else Unknown)
    assert len(runs) == 1
    assert not any("shrunk" in remark or "replayed" in remark for remark in result.found.remarks())
    assert result.found.replayed == (0, 0)


def test_a_lost_reply_is_found_with_faults_only():
    """And its token brings the fault back."""

    async def test_it(claude_tokens, workers):
        login = Login(claude_tokens.account(expired=True))

        async def job():
            for _ in range(2):
                try:
                    await login.token()
                    break
                except httpx.HTTPError:
                    pass

        async def other():
            await hello()

        await workers(job, other)

    assert search(quick(explore()(test_it))).error is None
    test = quick(explore(faults=[Fault.LOST_REPLY])(test_it))
    first = search(test)
    assert isinstance(first.error, BlindReplay)
    assert "token request 1 meets" in first.found.schedule.text()
    assert lines(search(test, replay=first.found.token).found) == lines(first.found)
