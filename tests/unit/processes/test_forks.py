"""Several processes of one worker: each has a name where it can be known; their calls overlap as any two workers'."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap

import httpx
import pytest

from fake_server.core.fault_plan import FaultPlan
from fake_server.events import worker_of
from fake_server.faults import Fault
from fake_server.protocol.wire import Request
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.judge.judging import judge
from pytest_claude_tokens.processes import forks, procfs
from pytest_claude_tokens.processes.forks import WorkerProcesses
from pytest_claude_tokens.simulation.thread_record import worker_number
from pytest_claude_tokens.violations import CoSchedule
from tests.unit.judge.build import REFRESHED, end, history, told

linux = pytest.mark.skipif(not procfs.is_available(), reason="only Linux tells whose a connection is")
PATIENCE = 60.0

FORKING = textwrap.dedent("""
    import json, os, sys, urllib.request

    def call():
        url, token = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", os.environ["CLAUDE_CODE_OAUTH_TOKEN"]
        headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, b"{}", headers)).read()

    children = []
    for _ in range(int(sys.argv[1])):
        children.append(os.fork())
        if not children[-1]:
            call()
            os._exit(0)
    if "call" in sys.argv:
        call()
    for child in children:
        os.waitpid(child, 0)
""")


def fork(tokens, *arguments):
    """A worker that forks so many children, and calls itself if asked to."""
    account = tokens.account()
    tokens.spawn([sys.executable, "-c", FORKING, *arguments], "w0", account=account).wait(PATIENCE)


def actors(tokens):
    return sorted({operation.actor for operation in tokens.history.operations})


@linux
def test_the_children_of_a_server_that_forks_are_told_apart():
    """Two at once on one bearer: that is what no client may do, and its worker's name hid it."""
    with pytest.raises(CoSchedule) as caught, ClaudeTokens() as tokens, tokens.hold("call", 2):
        fork(tokens, "2")

    assert sorted(caught.value.actors) == ["w0.1", "w0.2"]


@linux
def test_a_worker_that_forks_and_calls_itself_has_its_own_name():
    """It was there first."""
    with ClaudeTokens(allow=["co-schedule"]) as tokens, tokens.hold("call", 2):
        fork(tokens, "1", "call")

    assert actors(tokens) in (["w0", "w0.1"], ["w0", "w0.2"])


@linux
@pytest.mark.parametrize("script", ["{call}", "{call}; {call}", "{call} | cat"])
def test_one_process_after_the_other_is_one_worker(script, tmp_path):
    """The shell above it and what it writes to are not of its kind."""
    program = tmp_path / "client.py"
    program.write_text(FORKING)
    with ClaudeTokens() as tokens:
        call = f"{sys.executable} {program} 0 call"
        tokens.spawn(["sh", "-c", script.format(call=call)], "w0", account=tokens.account()).wait(PATIENCE)

    assert actors(tokens) == ["w0"]


@linux
def test_two_clients_of_a_shell_at_once_are_two(tmp_path):
    """Although neither is the other's child."""
    program = tmp_path / "client.py"
    program.write_text(FORKING)
    call = f"{sys.executable} {program} 0 call"
    with ClaudeTokens(allow=["co-schedule"]) as tokens, tokens.hold("call", 2):
        tokens.spawn(["sh", "-c", f"{call} & {call} & wait"], "w0", account=tokens.account()).wait(PATIENCE)

    assert len(actors(tokens)) == 2
    assert {worker_of(actor) for actor in actors(tokens)} == {"w0"}


def call_from_here(url, token):
    httpx.post(f"{url}/v1/messages", json={}, headers={"Authorization": f"Bearer {token}"}, trust_env=False)


@linux
def test_processes_that_the_test_starts_itself_are_told_apart_too():
    """With `multiprocessing`, and the environment of one worker."""
    spawning = multiprocessing.get_context("spawn")
    with ClaudeTokens(allow=["co-schedule"]) as tokens, tokens.hold("call", 2):
        account = tokens.account()
        asked = (f"{tokens.url}/w/w0", account.access_token)
        started = [spawning.Process(target=call_from_here, args=asked) for _ in range(2)]
        for process in started:
            process.start()
        for process in started:
            process.join(PATIENCE)

    assert len(actors(tokens)) == 2
    assert {worker_of(actor) for actor in actors(tokens)} == {"w0"}


def test_requests_of_this_process_have_the_workers_name(monkeypatch):
    """Also where there is no /proc."""
    names = WorkerProcesses()
    request = Request.parse("POST", "/w/w3/v1/messages", (), b"")
    here = ("127.0.0.1", 1), ("127.0.0.1", 2)

    assert names(request, "c1", *here) == "w3"
    assert names(Request.parse("POST", "/v1/messages", (), b""), "c1", *here) == "c1"
    monkeypatch.setattr(procfs, "process_ids", lambda: os.listdir("/nowhere"))
    assert names(request, "c2", *here) == "w3"
    assert forks._family() == {}


def test_a_process_that_ends_while_it_is_looked_at_is_left_out(monkeypatch):
    """It can't be sending."""
    monkeypatch.setattr(procfs, "process_ids", lambda: [999_999_999])

    assert forks._family() == {}
    assert not forks._is_same_program(999_999_999, os.getpid())


KEEPS_ALIVE = """
import http.client, os, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for path in sys.argv[2:]:
    connection.request("GET", path)
    connection.getresponse().read()
"""


@linux
def test_one_connection_may_be_for_two_workers():
    """Each request says whose it is; the process is looked for once."""
    with ClaudeTokens() as tokens:
        port = tokens.url.rpartition(":")[2]
        paths = ["/w/w0/api/hello", "/w/w1/api/hello", "/w/w0/api/hello"]
        subprocess.run([sys.executable, "-c", KEEPS_ALIVE, port, *paths], check=True, timeout=PATIENCE)

    assert [operation.actor for operation in tokens.history.operations] == ["w0", "w1", "w0"]


@linux
def test_who_has_the_workers_name_must_still_run():
    """Ids are used again: a process is known by the time of its start, too."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        begun = procfs.read_stat(process.pid).begun
        family = forks._family()
        names = {(process.pid, begun): "w0"}
        WorkerProcesses._name(names, "w0", (1, 1), family)
        other = {(process.pid, begun + 1): "w0"}
        WorkerProcesses._name(other, "w0", (1, 1), family)

    assert (names[1, 1], other[1, 1]) == ("w0.1", "w0")


@pytest.mark.parametrize(
    ("actor", "worker"), [("w0", "w0"), ("w0.1", "w0"), ("a.b", "a.b"), ("v1.2", "v1"), (".1", ".1")]
)
def test_a_process_belongs_to_its_worker(actor, worker):
    """By its name alone."""
    assert worker_of(actor) == worker


def test_a_process_has_its_workers_number():
    """What the schedule does to the worker, it does to all its processes."""
    names = ["w0", "w12.3", "w", "w.1", "x1", None]
    assert [worker_number(name) for name in names] == [0, 12, -1, -1, -1, -1]


def test_a_killed_worker_excuses_its_processes():
    """The kill is noted under the worker's name; the reply was lost with all of its processes."""
    killed = REFRESHED.replace("w0", "w0.2").replace("a ok at#2 rt#2", "note kill actor=w0\na info error=killed")
    verdict = judge(history(killed + end(["rt#2"], stores=[])))

    assert told(verdict) == []
    assert ["we did that: kill w0" in str(note) for note in verdict.notes] == [True]


def test_a_fault_for_a_worker_strikes_its_processes():
    """And those of no other worker."""
    plan = FaultPlan()
    plan.add("call", Fault.RESET, worker="w0")
    assert plan.take("call", None, "w1.1") is None
    assert plan.take("call", None, "w0.1") is Fault.RESET
