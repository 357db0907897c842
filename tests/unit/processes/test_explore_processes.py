"""``explore(processes=True)``: real programs, whose requests are released in an order that the schedule says."""

from __future__ import annotations

import os
import signal
import threading
from time import monotonic

import pytest
from hypothesis import example, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase

from fake_server import Fault
from pytest_claude_tokens import explore
from pytest_claude_tokens.runs import process_runner
from pytest_claude_tokens.runs.outcome import Body
from pytest_claude_tokens.runs.process_runner import ProcessRunner
from pytest_claude_tokens.search import confirm
from pytest_claude_tokens.simulation.schedule import DEFAULT_ORDER, Deviation, PlannedFault, Schedule
from pytest_claude_tokens.violations import (
    BlindReplay,
    CoSchedule,
    DoubleSpend,
    NothingRaced,
    Starvation,
    StoreRegression,
    TokenLeak,
)
from tests.unit.explore.common import search
from tests.unit.processes.common import program

few = settings(max_examples=3, database=None, derandomize=True)
PATIENCE = 20.0
HELLO = program("hello()")
SPEND = program("refresh(load()['refreshToken'])")
LOCKING = """
import fcntl
with open(store.parent / "lock", "a") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    (store.parent / "taken").touch()
    oauth = load()
    if oauth["expiresAt"] < time.time() * 1000:
        status, reply = refresh(oauth["refreshToken"])
        assert status == 200, reply
        oauth |= {"accessToken": reply["access_token"], "refreshToken": reply["refresh_token"]}
        oauth["expiresAt"] = (time.time() + reply["expires_in"]) * 1000
        new = store.with_suffix(".new")
        new.touch(0o600)
        new.write_text(json.dumps({"claudeAiOauth": oauth}))
        new.replace(store)
"""
LOCKED = program(LOCKING)
LATE = program("while not (store.parent / 'taken').exists(): time.sleep(0.01)" + LOCKING)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Little time is spent on shortening and repeating what fails."""
    monkeypatch.setattr(confirm, "_PROCESS_SHRINK_RUNS", 2)
    monkeypatch.setattr(confirm, "_PROCESS_REPEATS", 2)


def run(body, schedule=DEFAULT_ORDER, workers=2, **handle):
    """One run of a body."""
    outcome = ProcessRunner(Body(function=body, workers=workers, settings=handle)).run(schedule)
    if outcome.error is not None:
        raise outcome.error
    return outcome


def story(outcome, *kinds):
    """Who did what, of the events of these kinds."""
    return [f"{event.actor} {event.type}" for event in outcome.history if event.type in kinds and event.op is not None]


# What the workers get and give.


def test_the_same_command_runs_in_every_worker():
    """In a home of its own, the test's working directory, and without input."""
    tell = ["sh", "-c", 'cat; echo "$HOME|$PWD|$CLAUDE_CONFIG_DIR|$MORE"']
    seen = []

    def body(claude_tokens, workers):
        assert len(workers) == 2
        folder = claude_tokens.config_dir(claude_tokens.account())
        made = workers(tell, config_dir=folder, env={"MORE": "1"})
        seen.append([process.stdout.strip().split("|") for process in made])
        assert [process.worker for process in made] == ["w0", "w1"]
        assert [process.returncode for process in made] == [0, 0]
        assert seen[-1] == [[claude_tokens.env(worker=f"w{n}")["HOME"], os.getcwd(), str(folder), "1"] for n in (0, 1)]

    run(body)
    assert seen[0][0][0] != seen[0][1][0]


def test_each_worker_may_have_its_own():
    """Commands, folders, accounts and environments, as lists."""

    def body(claude_tokens, workers):
        one, two = claude_tokens.account("one"), claude_tokens.account("two")
        tell = ["sh", "-c", 'echo "$CLAUDE_CONFIG_DIR|$CLAUDE_CODE_OAUTH_TOKEN|$MORE"']
        folders = [claude_tokens.config_dir(one), claude_tokens.config_dir(two)]
        made = workers(tell, ["echo", "other"], config_dir=folders, env=[{"MORE": "a"}, None])
        assert [process.stdout for process in made] == [f"{folders[0]}||a\n", "other\n"]
        made = workers(tell, account=(one, two), env={"MORE": "b"})
        assert [process.stdout for process in made] == [f"|{login.access_token}|b\n" for login in (one, two)]

    run(body)


def test_exit_statuses_prove_nothing():
    """They are there to be read, and fail no test."""

    def body(claude_tokens, workers):
        assert [process.returncode for process in workers(["sh", "-c", "exit 3"])] == [3, 3]

    run(body)


@pytest.mark.parametrize(
    ("commands", "options", "says"),
    [
        ([], {}, "workers() takes one command as a list"),
        ([["true"]] * 3, {}, "or one for each of the 2 workers"),
        (["true"], {}, "workers() takes one command as a list"),
        ([print], {}, "workers() takes one command as a list"),
        ([["true"]], {"env": [{}]}, "a list with one value for each of the 2 workers is wanted, not 1"),
        ([["true"]], {"config_dir": [None] * 3}, "a list with one value for each of the 2 workers is wanted, not 3"),
    ],
)
def test_wrong_numbers_are_refused(commands, options, says):
    """In the body's line that says them, before anything is started."""

    def body(claude_tokens, workers):
        workers(*commands, **options)

    with pytest.raises(TypeError) as refused:
        run(body)
    assert says in str(refused.value)


def test_a_program_that_is_not_there_is_one_clear_error():
    """The other worker's process, which has started, does not outlive the run."""
    started = []

    def body(claude_tokens, workers):
        claude_tokens.server.journal.observers.append(
            lambda event: started.append(event.get("pid")) if event.f == "spawn" else None
        )
        workers(["sleep", "600"], ["no-such-program"])

    result = search(few(explore(processes=True)(body)))
    assert type(result.error) is FileNotFoundError
    assert "no-such-program" in str(result.error)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in started)


def test_what_the_body_starts_itself_is_not_held():
    """Nobody would let it go on: only what ``workers`` starts is."""

    def body(claude_tokens, workers):
        assert claude_tokens.spawn(HELLO, "before").wait(PATIENCE) == 0
        workers(HELLO)
        assert claude_tokens.spawn(HELLO, "after").wait(PATIENCE) == 0

    assert run(body).raced


# Order.


def test_requests_are_served_in_the_order_of_the_schedule():
    """Whoever arrived first."""

    def body(claude_tokens, workers):
        workers(HELLO)

    for first, second in ((0, 1), (1, 0)):
        outcome = run(body, Schedule(deviations=(Deviation(0, "alone", first, 34),)))
        assert story(outcome, "ok") == [f"w{first} ok", f"w{second} ok"]
        assert sorted(story(outcome, "invoke")) == ["w0 invoke", "w1 invoke"]
        assert outcome.raced


def test_requests_are_held_before_the_check_and_after_the_commit():
    """The winner's reply comes last: both were judged by the service before either knew."""

    def body(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(SPEND, config_dir=folder)

    schedule = Schedule(deviations=(Deviation(0, "alone", 0, 1), Deviation(1, "alone", 1, 2)))
    outcome = ProcessRunner(Body(function=body, workers=2)).run(schedule)
    ends = [
        event.op if event.f == "commit" else event.type
        for event in outcome.history
        if event.f == "commit" or event.type in ("ok", "fail")
    ]
    winner = next(event.op for event in outcome.history if event.type == "invoke" and event.actor == "w0")
    assert ends[0] == winner
    assert ends[2:] == ["fail", "ok"]
    assert isinstance(outcome.error, DoubleSpend)


def test_a_request_whose_client_has_gone_is_forgotten():
    """A client that doesn't wait for its reply stops nobody."""

    def body(claude_tokens, workers):
        hasty = program(
            """
            import socket
            from urllib.parse import urlsplit
            url = urlsplit(os.environ["ANTHROPIC_BASE_URL"])
            with socket.create_connection((url.hostname, url.port)) as connection:
                connection.sendall(f"GET {url.path}/api/hello HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())
                time.sleep(0.2)
            """
        )
        workers(hasty, program("time.sleep(0.5); hello()"))

    assert "w1 ok" in story(run(body), "ok")


def test_who_waits_for_another_in_its_own_way_is_seen_through(monkeypatch):
    """One that is never quiet until the other was served: it is not waited for for ever."""
    monkeypatch.setattr(process_runner, "_PATIENCE", 0.3)

    def body(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account())
        busy = program("while not (store.parent / 'done').exists(): pass")
        workers(busy, program("hello(); (store.parent / 'done').touch()"), config_dir=folder)

    run(body)


# Death.


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_schedule_kills_by_the_signals_it_may(number):
    """While the worker's request is held; the other one goes on."""

    def body(claude_tokens, workers):
        one, two = workers(HELLO)
        assert (one.returncode, two.returncode) == (-number, 0)

    outcome = run(body, Schedule(deviations=(Deviation(0, "kill", 0, number), Deviation(0, "kill", 5, number))))
    (note,) = outcome.history.noted("kill")
    assert (note.actor, note.get("signal")) == ("w0", number.name)
    assert story(outcome, "ok") == ["w1 ok"]


def test_deaths_are_drawn_where_they_are_asked_for():
    """By SIGKILL, or by the signals that are named; never otherwise."""

    def body(claude_tokens, workers):
        workers(HELLO)

    def signals(**options):
        drawn = set()

        def seen(claude_tokens, workers):
            claude_tokens.server.journal.observers.append(
                lambda event: drawn.add(event.get("signal")) if event.f == "kill" else None
            )
            body(claude_tokens, workers)

        test = settings(max_examples=4, database=None)(explore(processes=True, **options)(seen))
        assert search(test, seed=3).error is None
        return drawn

    assert signals() == set()
    assert signals(kills=True) == {"SIGKILL"}
    assert signals(kills=[signal.SIGTERM, signal.SIGINT]) <= {"SIGTERM", "SIGINT"}


def test_what_a_killed_worker_has_asked_for_has_no_known_outcome():
    """So the next in line, who sends the same token, replays blindly; nobody says that the two were at it at once."""

    def body(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(LOCKED, LATE, config_dir=folder)

    with pytest.raises(BlindReplay):
        run(body, Schedule(deviations=(Deviation(1, "kill", 0, signal.SIGKILL),)))


def test_what_only_we_have_lost_is_held_against_nobody():
    """The winner is killed before it has its reply, and nobody sends the token again."""

    def body(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account(expired=True))
        workers(LOCKED, HELLO, config_dir=folder)

    schedule = Schedule(deviations=(Deviation(0, "alone", 0, 1), Deviation(1, "kill", 0, signal.SIGKILL)))
    outcome = run(body, schedule)
    assert [(op.outcome, op.end.error) for op in outcome.history.operations if op.f == "token"] == [("info", "killed")]


def test_a_worker_that_never_ends_is_starvation(monkeypatch):
    """After a minute; it is ended then, and so is whatever it has started."""
    monkeypatch.setattr(process_runner, "LIMIT", 1.0)
    pids = []

    def body(claude_tokens, workers):
        one, two = workers(["sh", "-c", "sleep 600 & echo $!; wait"], ["true"])
        pids.append(int(one.stdout))
        assert two.returncode == 0

    with pytest.raises(Starvation, match="w0"):
        run(body)
    limit, never = monotonic() + PATIENCE, threading.Event()
    while os.path.exists(f"/proc/{pids[0]}"):
        assert monotonic() < limit
        never.wait(0.01)


def test_an_interruption_ends_everything():
    """Control-C in the middle of a body leaves no process behind."""
    pids = []

    def body(claude_tokens, workers):
        pids.append(claude_tokens.spawn(["sleep", "600"]).pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(body)
    assert not os.path.exists(f"/proc/{pids[0]}")


# Searches.


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
    assert again == times == 5
    assert any(line.endswith("replayed 5/5") for line in first.found.remarks())
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
