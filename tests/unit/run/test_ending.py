"""How a run ends that does not end by itself: out of time, interrupted, killed; and what it leaves behind: nothing."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from pytest_claude_tokens.cli import check
from pytest_claude_tokens.cli import run as running
from pytest_claude_tokens.processes import groups, supervise
from tests.unit.run.conftest import NOTHING, PATIENCE

ASK_FOR_TOKENS = """
import json, os, urllib.request
with open(os.environ["CLAUDE_CONFIG_DIR"] + "/.credentials.json") as file:
    login = json.load(file)["claudeAiOauth"]
body = json.dumps({"grant_type": "refresh_token", "refresh_token": login["refreshToken"], "client_id": "c"}).encode()
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/oauth/token"
urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).read()
"""
"""A program that stores nothing of what it gets."""

CALL = """
headers = {"Authorization": "Bearer " + login["accessToken"]}
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
urllib.request.urlopen(urllib.request.Request(url, b"{}", headers)).read()
"""

AS_ONE_WORKER = """
import os
os.environ["ANTHROPIC_BASE_URL"] += "/w/w0"
exec(os.environ["PROGRAM"])
"""

TOGETHER = """
import http.client, os
from urllib.parse import urlsplit
address = urlsplit(os.environ["ANTHROPIC_BASE_URL"]).netloc
def call():
    one = http.client.HTTPConnection(address)
    one.request("POST", "/v1/messages", "{}", {"Authorization": "Bearer " + os.environ["TOKEN"]})
    return one
first = call()
reads, writes = os.pipe()
if child := not os.fork():
    first = call()
    os.close(writes)
else:
    os.close(writes)
    os.read(reads, 1)
first.getresponse().read()
"""
"""A program that makes two calls on one bearer at a time in two processes, however slow the machine is."""


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Nobody here ends by being asked nicely."""
    monkeypatch.setattr(running, "_SIGNAL_GRACE_PERIOD_SECONDS", 0.2)
    monkeypatch.setattr(running, "GRACE_PERIOD_SECONDS", 0.2)


@pytest.fixture(autouse=True)
def usual_signals():
    """As in a terminal: under nohup, say, a signal is ignored, and stays so."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def group(tmp_path):
    """The group of the command that wrote its process id to `pid`."""
    return lambda: int((tmp_path / "pid").read_text())


def late(handle, monkeypatch):
    """Make the time of the run pass when a call is open, so that no test depends on speed."""

    def now() -> float:
        called = handle and any(one.kind == "call" for one in list(handle[0].server.open.values()))
        return time.monotonic() + (1000 if called else 0)

    monkeypatch.setattr(supervise, "time", SimpleNamespace(monotonic=now))


# Out of time.


def test_a_client_that_hangs_is_ended_and_what_it_held_is_told(run, handle, group, tmp_path, monkeypatch):
    """UNKNOWN, exit status 3, its open request and its lock by name; the file gives the same verdict."""
    late(handle, monkeypatch)
    history = tmp_path / "history.jsonl"
    script = f'echo $$ >{tmp_path}/pid; mkdir "$CLAUDE_CONFIG_DIR.lock"; claude -p hi; :'
    ended = run("--serialize", 600, "--timeout", 500, "--history", history, "--", "sh", "-c", script)

    assert ended.status == 3
    told = " ".join(ended.err.split())
    assert told.startswith("claude-tokens: UNKNOWN, 1 request verdict sh is stuck: no end after 500 s; it held call")
    assert "call at#1 of session-" in told
    assert "(#3), the lock shared.lock" in told
    assert not groups.is_alive(group())
    assert check.main([str(history)]) == 3


def test_a_command_out_of_time_that_held_nothing(run):
    """It is told all the same."""
    ended = run("--timeout", "0.01", "--", "sleep", "60")

    assert ended.status == 3
    assert "sleep is stuck: no end after 0.01 s\n" in ended.err


def test_who_does_not_listen_is_killed_with_its_children(run, group, tmp_path):
    """A child of a child that ignores every word."""
    script = f"trap '' TERM; echo $$ >{tmp_path}/pid; sleep 60 & sleep 60"
    assert run("--timeout", "0.3", "--", "sh", "-c", script).status == 3
    assert not groups.is_alive(group())


def test_a_child_that_outlives_its_parent_is_killed(run, group, tmp_path):
    """The command obeys at once; what it has started doesn't."""
    script = f"echo $$ >{tmp_path}/pid; (trap '' TERM; sleep 60) & wait"
    assert run("--timeout", "0.3", "--", "sh", "-c", script).status == 3
    assert not groups.is_alive(group())


def test_what_is_lost_by_our_killing_is_not_laid_at_the_commands_door(run, handle, monkeypatch):
    """Whoever has just got a new pair, and has not stored it, is killed in its next request: a note, no violation."""
    late(handle, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setenv("PROGRAM", ASK_FOR_TOKENS + CALL)
        ended = run("--serialize", 600, "--timeout", 500, "--", sys.executable, "-c", AS_ONE_WORKER)

    assert ended.status == 3
    (tokens,) = handle
    notes = [str(note) for note in tokens.finish().notes]
    assert [note for note in notes if "lost-rotation" in note and "we did that: kill w0" in note]


def test_what_the_command_loses_by_itself_is_its_own_doing(run):
    """The same program, with the reply in its hands: it did not store it."""
    ended = run("--", sys.executable, "-c", ASK_FOR_TOKENS)

    assert (ended.status, "LostRotation: rt#2 in no store: shared" in ended.err) == (1, True)


# Interrupted.


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_a_signal_ends_the_command_and_the_verdict_is_told(run, group, tmp_path, name):
    """What was seen until then is valid; what would have come nobody knows: 3."""
    script = f"echo $$ >{tmp_path}/pid; claude -p 'Reply: A'; kill -{name} $PPID; sleep 60 & wait"
    ended = run("--", "sh", "-c", script)

    assert (ended.status, ended.out) == (3, "A\n")
    assert f"sh is stuck: no end when SIG{name} came, after " in ended.err
    assert not groups.is_alive(group())


def test_the_terminals_signal_reaches_the_command(run, tmp_path):
    """It can tidy up: Ctrl-C is passed on as what it is."""
    script = "trap 'echo tidy; exit 0' INT; kill -INT $PPID; while :; do sleep 0.01; done"
    ended = run("--", "sh", "-c", script)

    assert (ended.status, ended.out) == (3, "tidy\n")


def test_a_violation_before_the_signal_is_one(run):
    """1, as it would have been without."""
    ended = run(
        "--token",
        "TOKEN",
        "--",
        "sh",
        "-c",
        f"{shlex.quote(sys.executable)} -c '{TOGETHER}'; kill -INT $PPID; exec sleep 60",
    )

    assert (ended.status, "CoSchedule" in ended.err) == (1, True)


def test_the_second_signal_waits_for_nobody(run, monkeypatch):
    """However long those who don't listen would be waited for."""
    monkeypatch.setattr(running, "_SIGNAL_GRACE_PERIOD_SECONDS", PATIENCE)
    script = "trap '' INT TERM; kill -INT $PPID; kill -TERM $PPID; exec sleep 60"
    began = time.monotonic()

    assert run("--", "sh", "-c", script).status == 3
    assert time.monotonic() - began < PATIENCE / 2


def test_a_signal_that_is_ignored_stays_ignored(run):
    """Under nohup, or in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run("--", "sh", "-c", "kill -INT $PPID; claude -p x").status == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_put_back(run):
    """Whoever calls this keeps their own."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    run("--", "true")

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_in_a_thread_no_signal_is_handled(run):
    """Only the main thread can; everything else works."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run("--", "claude", "-p", "Reply: A")))
    thread.start()
    thread.join(PATIENCE)

    assert [(ended.status, ended.out) for ended in found] == [(0, "A\n")]


# Left behind.


def test_what_a_command_leaves_running_is_waited_for(run, monkeypatch):
    """A script without `wait` has ended, its calls have not: they are judged."""
    monkeypatch.setattr(running, "GRACE_PERIOD_SECONDS", PATIENCE)
    ended = run("--serialize", "0.5", "--", "sh", "-c", "claude -p 'Reply: A' & claude -p 'Reply: B' & exit 0")

    assert sorted(ended.out) == ["\n", "\n", "A", "B"]
    assert ended.err.startswith(
        ("claude-tokens: INVALID, 2 requests: claude_tokens.CoSchedule", "claude-tokens: VALID, 2 requests")
    )


def test_what_never_ends_is_ended(run, group, tmp_path):
    """A server that a script has started is not left behind, and changes no verdict."""
    ended = run("--", "sh", "-c", f"echo $$ >{tmp_path}/pid; sleep 60 & exit 0")

    assert ended.status == 3
    assert ended.err.startswith(f"claude-tokens: what the command left running was ended\n{NOTHING}")
    assert not groups.is_alive(group())


def test_a_signal_ends_the_wait_for_what_was_left(run, group, tmp_path, monkeypatch):
    """The command itself has ended well."""
    monkeypatch.setattr(running, "GRACE_PERIOD_SECONDS", PATIENCE)
    began = time.monotonic()
    ended = run("--", "sh", "-c", f"echo $$ >{tmp_path}/pid; (trap '' INT; sleep 0.2; kill -INT $PPID; sleep 60) & :")

    assert (ended.status, "left running was ended" in ended.err) == (3, True)
    assert time.monotonic() - began < PATIENCE / 2
    assert not groups.is_alive(group())


# Killed.


def killed_when(start, path, said, *arguments):
    """Start a program, and kill it when its history says so."""
    null = subprocess.DEVNULL  # no pipe, as what is left behind would keep it open
    process = start(*arguments, stdin=null, stdout=null, stderr=null)
    until = time.monotonic() + PATIENCE
    event = threading.Event()
    while not (path.exists() and said in path.read_text()):
        assert time.monotonic() < until
        event.wait(0.02)
    process.kill()
    process.wait(PATIENCE)


@pytest.mark.parametrize(
    "case",
    [
        ("claude -p 'Reply: A'; cat PIPE", '"type":"ok"', 3),
        (f"{shlex.quote(sys.executable)} -c '{TOGETHER}'; cat PIPE", '"f":"queue"', 1),
    ],
)
def test_the_history_of_a_run_that_was_killed_is_torn(start, tmp_path, capsys, case):
    """Between two lines, even: it is read up to there, and said so; a violation before it counts."""
    script, said, status = case
    history, pipe = tmp_path / "history.jsonl", tmp_path / "pipe"
    os.mkfifo(pipe)
    holder = os.open(pipe, os.O_RDWR)
    try:
        run = (
            "run",
            "--token",
            "TOKEN",
            "--serialize",
            "0.3",
            "--history",
            history,
            "--",
            "sh",
            "-c",
            script.replace("PIPE", str(pipe)),
        )
        killed_when(start, history, said, *run)
        capsys.readouterr()
        assert check.main([str(history)]) == status
    finally:
        os.close(holder)  # and with it, the command's end

    out = capsys.readouterr().out
    assert "torn" in out.splitlines()[-1]
    assert "note: it is torn after line " in out


def test_the_history_of_a_service_that_was_killed_is_torn(start, tmp_path, capsys):
    """As that of a run."""
    history = tmp_path / "history.jsonl"
    killed_when(start, history, '"f":"login"', "serve", "--history", history)

    assert check.main([str(history)]) == 3
    assert "UNKNOWN: 0 requests, torn" in capsys.readouterr().out


def test_the_history_of_a_run_that_has_ended_is_whole(run, tmp_path):
    """The promise of its header is kept."""
    history = tmp_path / "history.jsonl"
    run("--history", history, "--", "claude", "-p", "x")

    assert json.loads(history.read_text().splitlines()[0])["ends"] is True
    assert check.main([str(history)]) == 0
