"""A search that preempts threads between two lines: what it finds, tells, counts and refuses."""

from __future__ import annotations

import re
import sys
import threading
import time
from typing import Any

import httpx
import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st

from pytest_claude_tokens import explore
from pytest_claude_tokens.report.evidence import notes_of
from pytest_claude_tokens.report.raced_lines import raced_lines
from pytest_claude_tokens.search.context import ExplorationContext, Report
from pytest_claude_tokens.search.replay import Replay
from pytest_claude_tokens.search.strategy import schedules
from pytest_claude_tokens.simulation.schedule import FOR_GOOD, UNTIL_LEG, Deviation, Schedule
from pytest_claude_tokens.violations import CoSchedule, Starvation
from tests.zoo.common import CALL_URL, HELLO_URL, MESSAGE, bearer_header
from tests.zoo.outside import error_of
from tests.zoo.plain_lines import RACES, CheckThenAct, Client, Race, calling, locked
from tests.zoo.test_plain_lines import searched

BY_NAME = {race.name: race for race in RACES}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("check, then act on a set", "check, then act: w1 added to CheckThenAct.busy (plain_lines.py:"),
        ("lost update of a counter", "lost update: w1 wrote LostUpdate.i (plain_lines.py:"),
        ("double-checked locking", "torn read: w1 read DoubleChecked.queue (plain_lines.py:"),
        ("torn pair of fields", "torn read: w1 wrote TornPair.name (plain_lines.py:"),
        ("published half-built object", "published too early: w1 read Session.account (plain_lines.py:"),
        ("headers published half-made", "published too early: w1 read HeadersLate.headers (plain_lines.py:"),
        ("generator shared by threads", "check, then act: w1 went on with a generator (plain_lines.py:"),
        ("module global", "check, then act: w1 wrote plain_lines.TURN (plain_lines.py:"),
    ],
)
def test_the_cause_names_the_kind_of_race_and_both_lines(name, told):
    error = searched(BY_NAME[name].planted)
    cause = error.cause if isinstance(error, CoSchedule) else notes_of(error)[0]
    assert cause.startswith(told)
    assert error.claude_tokens_found.schedule.text().startswith("w0 is preempted before plain_lines.py:")


def test_without_a_preemption_no_lines_have_raced():
    assert raced_lines(()) == ""


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"preempt": "mypool"}, TypeError, "must be True or False, or a list of packages"),
        ({"preempt": [1]}, TypeError, "a package is a name"),
        ({"preempt": ["no_such_package_here"]}, ValueError, "no package of that name is installed"),
        ({"preempt": ["no.such.package"]}, ValueError, "no package of that name is installed"),
        ({"preempt": True, "processes": True}, TypeError, "it needs a def without processes=True"),
    ],
)
def test_what_can_not_be_preempted_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        explore(**options)(lambda claude_tokens, workers: None)


def test_tasks_are_not_preempted():
    """To say so is fine, to ask for it is not."""

    async def body(claude_tokens, workers):
        """Nothing."""

    explore(preempt=False)(body)
    for preempt in (True, ["json"]):
        with pytest.raises(TypeError, match="nothing to preempt between two awaits"):
            explore(preempt=preempt)(body)


def test_installed_packages_are_looked_into_where_they_are_named():
    """A module of one file as well."""
    code: Any = explore(preempt=["json", "queue"])
    assert code is not None
    from pytest_claude_tokens.simulation.tested_code import TestedCode, folders_of

    covered = TestedCode([*folders_of("json"), *folders_of("queue")])
    import json.decoder
    import queue

    assert covered.covers(json.decoder.__file__)
    assert covered.covers(queue.__file__)
    assert not TestedCode().covers(queue.__file__)


@pytest.mark.parametrize(
    ("deviation", "words"),
    [
        (Deviation(0, "preempt", 0, 1, "pool.py:32:9:call"), "w0 is preempted before pool.py:32"),
        (Deviation(1, "preempt", 1, 1, "pool.py:32:9:call"), "w1 is preempted before pool.py:32, 2nd time there"),
        (
            Deviation(10, "preempt", 1, 3, "a.py:1:9:x"),
            "w1 is preempted before a.py:1, 11th time there, for 3 decisions",
        ),
        (
            Deviation(0, "preempt", 0, UNTIL_LEG, "a.py:1:9:x"),
            "w0 is preempted before a.py:1, until another's request or reply is under way",
        ),
        (
            Deviation(0, "preempt", 0, FOR_GOOD, "a.py:1:9:x"),
            "w0 is preempted before a.py:1, until nobody else can go on",
        ),
    ],
)
def test_a_preemption_is_told_replayed_and_drawn_again(deviation, words):
    """In words, as a token, and as integers of Hypothesis's."""
    schedule = Schedule(deviations=(deviation,))
    assert schedule.text() == words
    replay = Replay(kind="threads", workers=2, schedule=schedule)
    assert Replay.read(replay.token()).schedule == schedule
    strategy = schedules(2)
    integers = iter(strategy.written(schedule))
    assert strategy.draw_from(lambda low, high: next(integers)) == schedule


@pytest.mark.parametrize("gap", [0.03, 5.0])
@pytest.mark.parametrize("make", [CheckThenAct, locked(CheckThenAct)], ids=["planted", "sound"])
def test_workers_that_come_later_are_met(make: type[Client], gap: float):
    """Who is preempted while all others sleep is away for as long as it takes one of them to come there."""

    def body(claude_tokens: Any, workers: Any) -> None:
        with httpx.Client() as http:
            client = make([claude_tokens.account(f"a{n}", setup_token=True) for n in range(3)], http)

            def call(seconds: float) -> None:
                time.sleep(seconds)
                client.call()

            workers(lambda: call(0), lambda: call(gap), lambda: call(3 * gap))

    test = seed(1)(settings(max_examples=20, database=None)(explore(workers=3)(body)))
    error: Any = error_of(test, ExplorationContext())
    if make is CheckThenAct:
        assert isinstance(error, CoSchedule)
        assert error.cause.startswith("check, then act: ")
        assert len(vars(error)["claude_tokens_found"].schedule.deviations) == 1
    else:
        assert error is None


def test_it_can_be_switched_off():
    """Then lines are one step, as they were."""
    assert searched(RACES[0].planted, preempt=False) is None


def test_arguments_are_drawn_beside():
    """A search that draws arguments learns, too."""

    def body(claude_tokens: Any, workers: Any, accounts: int) -> None:
        calling(RACES[1].planted.maker, accounts=accounts)(claude_tokens, workers)  # type: ignore[attr-defined]

    error = searched(body, accounts=st.just(4))
    assert isinstance(error, CoSchedule)
    assert "preempted" in error.claude_tokens_found.schedule.text()


@pytest.mark.parametrize(("race", "sound"), [(RACES[0], False), (RACES[0], True)], ids=["planted", "sound"])
def test_a_preemption_is_one_deviation_of_an_exhaustive_search(race: Race, sound: bool):
    reports: list[Report] = []
    context = ExplorationContext(reported=reports.append)
    error = searched(race.sound if sound else race.planted, exhaustive=1, context=context)
    assert (error is None) is sound
    assert reports[0].schedules > 5


class Spins(Client):
    """Waits for a flag that the other takes back, or forgets to."""

    forgets = False

    def prepare(self) -> None:
        self.flag = False

    def call(self) -> None:
        while self.flag:
            pass
        self.flag = True
        self.send(self.accounts[0])
        self.flag = self.forgets


class Forgets(Spins):
    forgets = True


class Looks(Spins):
    """Waits in a loop that calls, but only looks."""

    def prepare(self) -> None:
        self.busy: list[int] = []

    def call(self) -> None:
        while len(self.busy) > 0:
            pass
        self.busy.append(1)
        self.send(self.accounts[0])


class Computes(Spins):
    """Takes the processor for a while, in a loop of which nothing can be seen, and asks when its turn has come."""

    def prepare(self) -> None:
        self.turn = threading.Lock()

    def call(self) -> None:
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass
        with self.turn:
            self.send(self.accounts[0])


def test_a_loop_that_computes_is_not_taken_for_one_that_waits():
    assert searched(calling(Computes), number=3) is None
    assert isinstance(searched(calling(Looks), number=3), Starvation)


def test_a_spin_that_nobody_ends_is_starvation():
    """And one that somebody ends is not: it finds the race in it, though."""
    assert isinstance(searched(calling(Forgets), number=3), Starvation)
    assert isinstance(searched(calling(Spins)), CoSchedule)
    assert searched(calling(locked(RACES[0].planted.maker)), number=3) is None


class Owned:
    """Accounts with one owner each; who comes in one step is safe, who looks first and then takes is not."""

    def __init__(self, accounts: Any, http: httpx.Client) -> None:
        self.accounts, self.http = accounts, http
        self.owners: dict[str, str] = {}

    def send(self, account: Any) -> None:
        self.http.post(CALL_URL, headers=bearer_header(account.access_token), json=MESSAGE)

    def in_one_step(self, owner: str) -> None:
        account = self.accounts[0]
        if self.owners.setdefault(account.name, owner) == owner:
            self.send(account)

    def in_two(self, owner: str) -> None:
        account = self.accounts[0]
        if account.name not in self.owners:
            self.owners[account.name] = owner
            self.send(account)


def with_a_thread(body_does: str, starter: str = "body") -> Any:
    """A body that does something itself while a thread runs that it has started, or one of its workers has."""

    def with_a_thread(claude_tokens: Any, workers: Any) -> None:
        with httpx.Client() as http:
            owned = Owned([claude_tokens.account("a", setup_token=True)], http)
            begin = threading.Event()

            def in_one_step() -> None:
                begin.wait()
                owned.in_one_step("thread")

            thread = threading.Thread(target=in_one_step)

            def job() -> None:
                http.get(HELLO_URL)
                if starter == "worker":
                    thread.start()

            workers(job, lambda: http.get(HELLO_URL))
            if starter == "body":
                threading.Thread(target=list).start()  # one more, with nothing to do
                thread.start()
            begin.set()
            getattr(owned, body_does)("body")
            thread.join()

    return with_a_thread


def test_a_thread_that_a_worker_left_behind_races_with_the_body_too():
    error = searched(with_a_thread("in_two", "worker"), number=60)
    assert "the body is preempted before test_preempting.py:" in error.claude_tokens_found.schedule.text()


def test_the_body_itself_loses_its_turn_while_a_thread_of_its_own_runs():
    """As a worker does: it is found, told and replayed; in one step the same is sound."""
    traced = sys.gettrace()
    error = searched(with_a_thread("in_two"), number=60)
    assert isinstance(error, CoSchedule)
    found = error.claude_tokens_found
    assert re.search(r"the body is preempted before test_preempting\.py:\d+ self\.owners\[", found.schedule.text())
    assert error.cause.startswith("check, then act: a thread of the test added to Owned.owners (test_preempting.py:")
    assert "between the body's test (test_preempting.py:" in error.cause
    again = searched(with_a_thread("in_two"), context=ExplorationContext(replay=found.token))
    assert again.claude_tokens_found.history.events == found.history.events
    assert searched(with_a_thread("in_one_step"), number=16) is None
    assert sys.gettrace() is traced
