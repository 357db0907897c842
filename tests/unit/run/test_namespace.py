"""``--real-claude``: in a network namespace without a route out, or not at all."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys

import pytest

from pytest_claude_tokens.cli import isolate
from pytest_claude_tokens.processes import namespace
from tests.unit.run.conftest import PATIENCE

NEEDS = "claude-tokens run: a real claude runs only in a network namespace without a route out, and "
DEV = "Inter-|   Receive\n face |bytes\n"
ROUTE = "Iface\tDestination\tGateway\n"


def forbidden():
    """Why no namespace can be had here; empty where one can."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return "no `unshare`"
    tried = subprocess.run([unshare, "-U", "-r", "-n", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() or tried.returncode


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """What the kernel says of the network, made up."""
    monkeypatch.setattr(namespace, "_PROC", tmp_path)

    def write(**files):
        for name, text in files.items():
            (tmp_path / name).write_text(text)

    return write


@pytest.fixture
def without(monkeypatch, tmp_path):
    """A PATH on which `unshare` is what the test says, or is not."""

    def put(script=None):
        if script is not None:
            (tmp_path / "unshare").write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "unshare").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(namespace, "isolated", lambda: False)

    return put


@pytest.mark.skipif(bool(forbidden()), reason=f"no user and network namespaces here: {forbidden()}")
def test_a_real_claude_meets_loopback_and_nothing_else(start, tmp_path):
    """The `claude` on PATH is the user's own; the service answers; there is no way out."""
    own = tmp_path / "claude"
    own.write_text(
        f"#!{sys.executable} -SI\n"
        "import os, socket, urllib.request\n"
        'print("the real one")\n'
        'print(urllib.request.urlopen(os.environ["ANTHROPIC_BASE_URL"] + "/api/hello").status)\n'
        "try:\n"
        '    socket.create_connection(("192.0.2.1", 443), 30)\n'
        "except OSError as error:\n"
        "    print(os.strerror(error.errno))\n"
        "raise SystemExit(5)\n"
    )
    own.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    process = start("run", "--real-claude", "--", "claude", "-p", "hi", env=environment)
    out, err = process.communicate(timeout=PATIENCE)

    assert out.splitlines() == ["the real one", "200", "Network is unreachable"]
    assert (process.returncode, "with status 5" in err) == (3, True)


def test_without_unshare_it_refuses(run, without):
    """In one sentence, and exit status 2; the command is not started."""
    without()
    ended = run("--real-claude", "--", "/bin/echo", "started")

    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"{NEEDS}there is no program `unshare` on PATH (Linux, util-linux)\n"


def test_where_namespaces_are_forbidden_it_refuses(run, without):
    """With the reason that the system gives."""
    without("echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    ended = run("--real-claude", "--", "/bin/echo", "started")

    assert (ended.status, ended.out) == (2, "")
    assert ended.err == (f"{NEEDS}this machine forbids it (unshare: unshare failed: Operation not permitted)\n")


def test_a_namespace_that_has_a_route_is_refused(run, without, monkeypatch):
    """It is tried once, and no real client is started where something may leave."""
    without("exit 0")
    monkeypatch.setenv("CLAUDE_TOKENS_ISOLATED", "1")
    ended = run("--real-claude", "--", "/bin/echo", "started")

    assert (ended.status, ended.out, ended.err) == (2, "", f"{NEEDS}the one that was made for it has a route\n")


def test_the_process_becomes_the_one_inside(run, without, tmp_path, monkeypatch):
    """Signals, terminal and exit status are its own."""
    without("exit 0")
    became = []
    monkeypatch.setattr(os, "execve", lambda *call: became.append(call))
    run("--real-claude", "--timeout", "5", "--", "claude", "-p")

    ((program, arguments, environment),) = became
    assert program == str(tmp_path / "unshare")
    assert arguments[1:4] == ["--user", "--map-root-user", "--net"]
    assert arguments[4:7] == [sys.executable, "-m", "pytest_claude_tokens.cli.isolate"]
    assert arguments[7:] == ["run", "--real-claude", "--timeout", "5", "--", "claude", "-p"]
    assert environment["CLAUDE_TOKENS_ISOLATED"] == "1"


def test_in_isolation_it_runs_at_once(run, monkeypatch):
    """PATH is left alone."""
    monkeypatch.setattr(namespace, "isolated", lambda: True)
    ended = run("--real-claude", "--", "sh", "-c", "echo $PATH")

    assert (ended.status, ended.out) == (3, os.environ["PATH"] + "\n")


@pytest.mark.parametrize(
    ("interfaces", "expected"), [(["lo"], True), (["lo", "eth0"], False), (["lo", "sit0"], False), ([], False)]
)
def test_isolated_is_who_has_loopback_and_nothing_else(proc, monkeypatch, interfaces, expected):
    """Another interface may get a route at any time."""
    monkeypatch.delenv("CLAUDE_TOKENS_ISOLATED", raising=False)
    proc(dev=DEV + "".join(f"  {name}: 0 0\n" for name in interfaces))

    assert namespace.isolated() is expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"route": ROUTE}, True),
        ({"route": ROUTE, "ipv6_route": "0000 00 lo\n"}, True),
        ({"route": ROUTE + "lo\t0000007F\t0\n"}, True),
        ({"route": ROUTE + "eth0\t00000000\t0\n"}, False),
        ({"route": ROUTE, "ipv6_route": "0000 00 lo\n0000 00 eth0\n"}, False),
        ({}, False),
    ],
)
def test_in_a_namespace_of_its_own_routes_count(proc, monkeypatch, files, expected):
    """Some kernels put tunnels, which lead nowhere, into each."""
    monkeypatch.setenv("CLAUDE_TOKENS_ISOLATED", "1")
    proc(dev=DEV + "  lo: 0\n  sit0: 0\n", **files)

    assert namespace.isolated() is expected


UP = """
import sys
from importlib import import_module
from socket import create_connection, create_server

def reachable():
    with create_server(("127.0.0.1", 0)) as server:
        try:
            create_connection(server.getsockname(), 5).close()
        except OSError:
            return False
        return True

namespace = import_module(sys.argv[1])
told = [reachable()]
for _ in range(2):
    namespace.loopback_up()
    told.append(reachable())
print(told)
"""


@pytest.mark.skipif(bool(forbidden()), reason=f"no user and network namespaces here: {forbidden()}")
def test_loopback_of_a_new_namespace_is_brought_up():
    """The kernel makes it down; bringing it up again changes nothing."""
    inside = ["unshare", "-U", "-r", "-n", sys.executable, "-c", UP, namespace.__name__]
    ended = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (ended.stdout, ended.stderr) == ("[False, True, True]\n", "")


def test_inside_loopback_comes_first(monkeypatch, capsys):
    """Without it, nothing can be tested, and the command is not started."""
    monkeypatch.setattr(namespace, "loopback_up", lambda: None)
    assert isolate.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("claude-tokens ")

    def refuse():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(namespace, "loopback_up", refuse)
    assert isolate.main(["--version"]) == 2
    assert capsys.readouterr().err == f"{NEEDS}its loopback can't be used: Operation not permitted\n"


def test_it_is_a_module_to_run(monkeypatch, capsys):
    """As `enter` does, and `python -m`."""
    monkeypatch.setattr("fcntl.ioctl", lambda *_: b"lo".ljust(32, b"\0"))
    monkeypatch.setattr(sys, "argv", ["isolate", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(isolate.__file__, run_name="__main__")
    assert (ended.value.code, capsys.readouterr().out.startswith("claude-tokens ")) == (0, True)
