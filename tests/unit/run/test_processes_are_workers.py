"""Under ``run`` a process is a worker, however many connections it opens and whatever it sends beside its calls."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from fake_server.protocol.wire import Request
from pytest_claude_tokens.processes import peers, procfs
from pytest_claude_tokens.processes.peers import ProcessNames, holder_of

CLIENT = """
import json, os, sys, urllib.request
base, token = os.environ["ANTHROPIC_BASE_URL"], os.environ["TOKEN"]
body = json.dumps({"messages": []}).encode()
auth = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
session = {"X-Claude-Code-Session-Id": sys.argv[1]} if sys.argv[1:] else {}
def ask(path, body=None, **headers):
    urllib.request.urlopen(urllib.request.Request(base + path, body, headers)).read()
for _ in range(3):
    ask("/api/hello")
ask("/v1/messages", body, **auth, **session)
ask("/v1/messages", body, **auth)
"""
"""A program that opens five connections, and tells its session only with a call."""


def actors(history):
    """The workers, each with its requests' kinds."""
    found = {}
    for line in map(json.loads, history.read_text().splitlines()):
        if line["type"] == "invoke":
            found.setdefault(line["actor"], []).append(line["f"])
    return found


@pytest.fixture
def client(tmp_path):
    program = tmp_path / "client.py"
    program.write_text(CLIENT)
    return f"{sys.executable} {program}"


def test_a_process_has_one_name(run, client, tmp_path):
    """All its connections are one worker's; two processes are two workers, and are named after program and id."""
    history = tmp_path / "h.jsonl"
    both = f"{client} 1111 & one=$!; {client} & echo $one $!; wait"
    ended = run("--history", history, "--token", "TOKEN", "--", "sh", "-c", both)
    ids = [int(word) for word in ended.out.split()]
    found = actors(history)
    assert sorted(int(name.rpartition("-")[2]) for name in found) == sorted(ids)
    assert all(kinds == ["other"] * 3 + ["call"] * 2 for kinds in found.values())
    assert ended.status == 1  # their calls overlap, of course
    assert f"claude_tokens.CoSchedule: TOKEN:at#1 by {next(iter(found))[:6]}" in ended.err
    assert "and 6 requests that touch no token: GET /api/hello (6 times)" in ended.err
    assert "GET /api/hello ..." not in ended.err


def test_a_fake_claude_is_named_after_its_session(run, tmp_path):
    """Which it tells with each of its requests."""
    history = tmp_path / "h.jsonl"
    session = "12345678-0000-4000-8000-000000000000"
    run("--history", history, "--", "claude", "-p", "Reply: A", "--session-id", session)
    assert list(actors(history)) == ["session-12345678"]


def test_a_command_that_is_ended_is_told_by_its_name(run, tmp_path):
    """The one that its requests have, if it has sent any."""
    history = tmp_path / "h.jsonl"
    program = tmp_path / "client.py"
    program.write_text(f"{CLIENT}\nimport signal\nos.kill(os.getppid(), signal.SIGINT)\nsignal.pause()\n")
    ended = run("--history", history, "--token", "TOKEN", "--latency", "0", "--", sys.executable, program)
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    (stuck,) = (line["actor"] for line in lines if line["f"] == "stuck")
    assert {stuck} == set(actors(history))
    assert ended.status == 3


# The names.


def asked(session=None, worker=None):
    headers = () if session is None else (("x-claude-code-session-id", session),)
    return Request("GET", "/api/hello", headers, worker=worker)


class Processes:
    """Connections ``1:…`` of process 1, and so on."""

    def __init__(self, monkeypatch):
        self.looked = []
        monkeypatch.setattr(peers, "holder_of", self.holder_of)
        monkeypatch.setattr(peers, "_program", lambda process: f"program-{process}")
        self.names = ProcessNames()

    def holder_of(self, client, server, candidates):
        self.looked.append(client)
        return (client // 10, 0) if client >= 10 else None

    def name(self, client, request):
        return self.names(request, f"c{client}", ("127.0.0.1", client), ("127.0.0.1", 80))


def test_the_first_sign_of_a_process_is_its_name(monkeypatch):
    """The session if it is told at once, else the program; a name that somebody gave it counts for more."""
    processes = Processes(monkeypatch)
    assert [processes.name(10, asked()), processes.name(11, asked("aaaa"))] == ["program-1"] * 2
    assert [processes.name(20, asked("bbbb")), processes.name(21, asked())] == ["session-bbbb"] * 2
    assert processes.name(21, asked(worker="w7")) == "w7"
    assert processes.looked == [10, 11, 20, 21]


def test_a_gateway_is_a_worker_for_each_session(monkeypatch):
    """The first one is its own; those that it serves besides are others."""
    processes = Processes(monkeypatch)
    sessions = ["aaaa", "bbbb", "aaaa", None]
    assert [processes.name(10, asked(session)) for session in sessions] == [
        "session-aaaa",
        "session-bbbb",
        "session-aaaa",
        "session-aaaa",
    ]


def test_two_processes_of_one_session_are_two_workers(monkeypatch):
    """As when one resumes what another still works at."""
    processes = Processes(monkeypatch)
    assert [processes.name(client, asked("aaaa")) for client in (10, 20, 30)] == [
        "session-aaaa",
        "session-aaaa.2",
        "session-aaaa.3",
    ]


def test_who_can_not_be_found_is_known_by_its_request(monkeypatch):
    """A process that has ended, or one of another machine's."""
    processes = Processes(monkeypatch)
    assert [processes.name(3, asked()), processes.name(3, asked("aaaa"))] == ["c3", "session-aaaa"]


# Who holds a connection.


@pytest.mark.skipif(not procfs.is_available(), reason="no /proc here")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_holder_of_a_connection_is_found(family):
    """By a socket of either family; its server's end is not taken for it, and the parent goes before its children."""
    code = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); sys.stdin.read()"
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        host = "127.0.0.1" if family == socket.AF_INET else "::ffff:127.0.0.1"
        with subprocess.Popen([sys.executable, "-c", code, host, str(port)], stdin=subprocess.PIPE) as process:
            accepted, address = listening.accept()
            with accepted:
                everybody = frozenset(procfs.process_ids()) - {os.getpid()}
                found = holder_of(address[1], port, everybody)
                assert found == (process.pid, procfs.read_stat(process.pid).begun)
                assert holder_of(address[1], port, frozenset((999_999_999,))) is None
                assert holder_of(address[1], 1, everybody) is None
                process.stdin.close()


def test_where_there_is_no_proc_nobody_is_found(monkeypatch):
    """Another system; then a connection names the worker, as it does for `serve`."""
    monkeypatch.setattr(peers, "_TABLES", ("/nowhere",))
    monkeypatch.setattr(procfs, "process_ids", lambda: os.listdir("/nowhere"))
    names = ProcessNames()
    assert names(asked(), "c1", ("127.0.0.1", 1), ("127.0.0.1", 2)) == "c1"
    assert peers._program(999_999_999) == "process-999999999"
