"""Token requests a second over sockets, ours beside its peers."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed.load import rate
from benchmarks.speed.servers import SERVERS

__all__ = ["CLIENTS", "PEERS", "YARDSTICKS", "measure", "present"]

CLIENTS = (1, 8, 64)
OURS = "pytest-claude-tokens"
PEERS = ("pytest-httpserver", "oauthlib on http.server", "oauth2-mock-server", "mockttp")
YARDSTICKS = ("smallest rotating fake", "fixed bytes")
NODE = ("oauth2-mock-server", "mockttp")
_PACKAGES = {"oauthlib on http.server": "oauthlib", "smallest rotating fake": "httptools", "fixed bytes": "httptools"}


def present() -> Iterator[tuple[str, str]]:
    """Each server that can be started here, with its version; the missing ones are named on standard error."""
    for name in (OURS, *PEERS, *YARDSTICKS):
        version = _node_version(name) if name in NODE else _version(_PACKAGES.get(name, name))
        if version:
            yield name, version
        else:
            print(f"{name} is not installed, and left out", file=sys.stderr)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _node_version(package: str) -> str:
    path = Path(os.environ.get("SPEED_NODE_MODULES", "node_modules"), package, "package.json")
    return str(json.loads(path.read_bytes())["version"]) if path.exists() else ""


def measure(name: str, clients: int, seconds: float) -> tuple[float, float]:
    """Requests a second of the server of that name, which is started for it, and a second of its processor's time."""
    program = (
        ["node", str(Path(__file__).with_name("servers.mjs")), name, str(clients)]
        if name in NODE
        else [sys.executable, "-m", "benchmarks.speed.servers", name, str(clients)]
    )
    assert name in NODE or name in SERVERS
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        try:
            before = _processor_seconds(server.pid)
            by_clock, answered = rate(told["port"], told["path"], told["tokens"], seconds=seconds)
            return by_clock, answered / (_processor_seconds(server.pid) - before)
        finally:
            server.stdin.close()


def _processor_seconds(pid: int) -> float:
    """What a process has used so far (``/proc/PID/stat``, proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
