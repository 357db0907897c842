"""Searches over schedules of real programs: what is found, confirmed, kept, and called proved."""

from __future__ import annotations

import pytest
from hypothesis import example, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from fake_server import Fault
from pytest_claude_tokens import explore
from pytest_claude_tokens.search import confirm
from pytest_claude_tokens.simulation.schedule import PlannedFault, Schedule
from pytest_claude_tokens.violations import (
    CoSchedule,
    DoubleSpend,
    NothingRaced,
    StoreRegression,
    TokenLeak,
)
from tests.unit.explore.common import search
from tests.unit.processes.common import HELLO, LOCKED, SPEND, few, program, run

pytestmark = pytest.mark.usefixtures("brief")


def test_a_planted_bug_is_found_and_told_with_how_often_it_came_again(monkeypatch):
    """Each of two processes spends what it finds in the file."""
    monkeypatch.setattr(confirm, "_PROCESS_REPEATS", 5)

    @few
    @explore(processes=True)
    def test_it(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(SPEND, config_dir=folder)

    first = search(test_it)
    assert isinstance(first.error, DoubleSpend)
    again, times = first.found.replayed
    assert 1 <= again <= times == 5  # on a busy machine a process may start after the other one has ended
    assert any(line.endswith(f"replayed {again}/5") for line in first.found.remarks())
    replayed = search(test_it, replay=first.found.token)
    assert isinstance(replayed.error, DoubleSpend)


def test_its_sound_twin_is_spared():
    """Under a lock that the second one waits for."""

    @few
    @explore(processes=True)
    def test_it(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        for process in workers(LOCKED, config_dir=folder):
            assert process.returncode == 0, process.stderr

    result = search(test_it)
    assert result.error is None
    assert result.report.schedules == 3


def test_what_was_seen_once_is_real(monkeypatch):
    """Although it never comes again: its own name, its own history, and 0 of 5."""
    monkeypatch.setattr(confirm, "_PROCESS_REPEATS", 5)
    runs = []

    @few
    @explore(processes=True)
    def test_it(claude_tokens, workers):
        runs.append(1)
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(SPEND if len(runs) == 2 else HELLO, config_dir=folder)

    result = search(test_it)
    assert type(result.error) is DoubleSpend
    assert result.found.replayed == (0, 5)
    assert any(line.endswith("; replayed 0/5") for line in result.found.remarks())
    assert [op.f for op in result.found.history.operations] == ["token", "token"]


def test_a_replay_is_tried_a_few_times(monkeypatch):
    """It repeats as far as it can."""
    runs = []

    @few
    @explore(processes=True)
    def test_it(claude_tokens, workers):
        runs.append(1)
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(SPEND if len(runs) % 3 == 0 else HELLO, config_dir=folder)

    monkeypatch.setattr(confirm, "_PROCESS_TIMEOUT_SECONDS", 0.0)
    token = search(test_it).found.token
    runs.clear()
    assert isinstance(search(test_it, replay=token).error, DoubleSpend)


def test_time_is_limited_while_a_failure_is_made_shorter(monkeypatch):
    """Processes are slow: after a while the shortest so far is good enough, and repeated once."""
    monkeypatch.setattr(confirm, "_PROCESS_TIMEOUT_SECONDS", 0.0)

    @few
    @explore(processes=True)
    def test_it(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(SPEND, config_dir=folder)

    assert search(test_it).found.replayed == (1, 1)


def test_a_failure_is_kept_for_the_next_run():
    """Its schedule comes first then, with its arguments."""
    database = InMemoryExampleDatabase()
    drawn = []

    def body(claude_tokens, workers, n):
        drawn.append(n)
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(SPEND if n == 4 else ["true"], config_dir=folder)

    test = settings(max_examples=60, database=database)(explore(processes=True, n=st.integers(0, 4))(body))
    result = search(test, seed=1)
    assert isinstance(result.error, DoubleSpend)
    assert "with n=4" in result.notes
    drawn.clear()
    assert isinstance(search(test).error, DoubleSpend)
    assert drawn[0] == 4


def test_a_failing_example_is_told_and_not_kept():
    """It is always tried."""
    database = InMemoryExampleDatabase()

    @example(n=7)
    @settings(few, derandomize=False, database=database)
    @explore(processes=True, n=st.integers(0, 5))
    def test_it(claude_tokens, workers, n):
        assert n != 7

    result = search(test_it)
    assert type(result.error) is AssertionError
    assert "with n=7" in result.notes
    assert database.data == {}
    assert type(search(test_it, replay=result.found.token).error) is AssertionError


def test_workers_without_a_request_prove_nothing():
    """Whatever they did."""
    result = search(few(explore(processes=True)(lambda claude_tokens, workers: workers(["true"]))))
    assert type(result.error) is NothingRaced


def test_one_after_the_other_proves_nothing():
    """The only request comes when the other one has long ended."""

    def body(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account())
        late = program("while not (store.parent / 'done').exists(): time.sleep(0.01)\ntime.sleep(0.3)\nhello()")
        workers(["sh", "-c", 'touch "$CLAUDE_CONFIG_DIR/done"'], late, config_dir=folder)

    assert type(search(few(explore(processes=True)(body))).error) is NothingRaced


def test_without_settings_few_schedules_are_tried():
    """Processes take a thousand times as long as tasks; whoever wants more says so."""
    test = explore(workers=1, processes=True)(lambda claude_tokens, workers: workers(["true"]))
    with pytest.warns(UserWarning, match="can't race"):
        assert search(test).report.schedules == 20
    with pytest.warns(UserWarning, match="can't race"):
        assert search(test, examples=2).report.schedules == 2


# Other invariants.


def test_calls_on_one_bearer_meet():
    """Two workers with one token."""

    def body(claude_tokens, workers):
        workers(program("call(os.environ['CLAUDE_CODE_OAUTH_TOKEN'])"), account=claude_tokens.account())

    assert isinstance(search(few(explore(processes=True)(body))).error, CoSchedule)


def test_a_store_that_goes_back_is_noticed():
    """The loser blanks the file of the winner."""
    blank = program(
        """
        status, reply = refresh(load()["refreshToken"])
        if status == 200:
            save(reply)
        else:
            save({"access_token": "", "refresh_token": ""})
        """
    )

    def body(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(blank, config_dir=folder)

    handle = {"allow": ["double-spend", "forced-login", "lost-rotation"]}
    error = search(settings(few, max_examples=8)(explore(processes=True)(body)), handle=handle).error
    assert isinstance(error, StoreRegression)


def test_a_token_in_a_workers_arguments_is_a_leak():
    """Of those that ``workers`` starts, too."""

    def body(claude_tokens, workers):
        workers(["true", claude_tokens.account().refresh_token])

    assert isinstance(search(few(explore(processes=True)(body))).error, TokenLeak)


def test_faults_strike_processes_too():
    """Where they are asked for."""

    def body(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(SPEND, HELLO, config_dir=folder)

    schedule = Schedule(planned_faults=(PlannedFault(0, "token", Fault.status(503)),))
    outcome = run(body, schedule)
    assert [op.status for op in outcome.history.operations if op.f == "token"] == [503]


def test_pytest_fail_in_a_body_is_a_failure_and_a_skip_is_none():
    """As in tasks and threads."""

    def fails(claude_tokens, workers):
        workers(HELLO)
        pytest.fail("too few")

    def skips(claude_tokens, workers):
        pytest.skip("not here")

    with pytest.raises(pytest.fail.Exception) as failed:
        few(explore(processes=True)(fails))()
    assert failed.value.claude_tokens_found.replayed[1] > 0
    with pytest.raises(pytest.skip.Exception):
        few(explore(processes=True)(skips))()
