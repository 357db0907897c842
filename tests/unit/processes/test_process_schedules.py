"""Real programs whose requests are released, and which are killed, as the schedule says."""

from __future__ import annotations

import os
import signal
import threading
from time import monotonic

import pytest
from hypothesis import settings

from pytest_claude_tokens import explore
from pytest_claude_tokens.runs import process_runner
from pytest_claude_tokens.runs.outcome import Body
from pytest_claude_tokens.runs.process_runner import ProcessRunner
from pytest_claude_tokens.simulation.schedule import Deviation, Schedule
from pytest_claude_tokens.violations import (
    BlindReplay,
    DoubleSpend,
    Starvation,
)
from tests.unit.explore.common import search
from tests.unit.processes.common import HELLO, LOCKED, LOCKING, PATIENCE, SPEND, program, run

pytestmark = pytest.mark.usefixtures("brief")

LATE = program("while not (store.parent / 'taken').exists(): time.sleep(0.01)" + LOCKING)


def story(outcome, *kinds):
    """Who did what, of the events of these kinds."""
    return [f"{event.actor} {event.type}" for event in outcome.history if event.type in kinds and event.op is not None]


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
    monkeypatch.setattr(process_runner, "_QUIESCENCE_TIMEOUT_SECONDS", 0.3)

    def body(claude_tokens, workers):
        folder = claude_tokens.config_dir(claude_tokens.account())
        busy = program("while not (store.parent / 'done').exists(): pass")
        made = workers(busy, program("hello(); (store.parent / 'done').touch()"), config_dir=folder)
        assert [process.returncode for process in made] == [0, 0]

    assert story(run(body), "ok") == ["w1 ok"]


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
    monkeypatch.setattr(process_runner, "RUN_TIMEOUT_SECONDS", 1.0)
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
