"""The fake claude as real processes, against the service on a loopback port."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from fake_server.clock import Clock, stopwatch
from fake_server.core.hold import Hold
from fake_server.policy import Policy
from fake_server.server import Server
from fake_server.transports.sockets import SocketServer
from pytest_claude_tokens.claude import telemetry
from pytest_claude_tokens.claude.install import install

PATIENCE = 30.0


class Site:
    """A service, the executables, and config directories; as a context manager."""

    def __init__(self, folder: Path, dialect: str, policy: Policy | None = None, *, scale: float = 0.2) -> None:
        self.folder = folder
        self.dialect = dialect
        self.scale = scale
        self.server = Server(policy or Policy(), Clock(), stopwatch(), namespace="site")
        self.sockets = SocketServer(self.server)
        self.bin = install(folder / "the bin")
        self.telemetry = folder / "telemetry.jsonl"
        self.running: list[subprocess.Popen[str]] = []
        self.grant = self.server.login("alice")
        self.server.expire("alice")

    def __enter__(self) -> Self:
        self.sockets.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            process.kill()
            process.communicate()
        self.sockets.stop()

    def config(self, name: str) -> Path:
        """A config directory with the expired login, below a parent of its own."""
        place = self.folder / name / "config"
        place.mkdir(parents=True)
        entry = {
            "accessToken": self.grant.access[0].secret,
            "refreshToken": self.grant.refresh[0].secret,
            "expiresAt": 0,
            "scopes": ["user:inference"],
        }
        (place / ".credentials.json").write_text(json.dumps({"claudeAiOauth": entry}))
        return place

    def environ(self, config: Path, worker: str, **more: str) -> dict[str, str]:
        url = f"{self.sockets.url}/w/{worker}"
        return {
            "ANTHROPIC_BASE_URL": url,
            "CLAUDE_CODE_MAX_RETRIES": "2",
            "CLAUDE_CONFIG_DIR": str(config),
            "CLAUDE_TOKENS_DIALECT": self.dialect,
            "CLAUDE_TOKENS_TELEMETRY": str(self.telemetry),
            "CLAUDE_TOKENS_TIME_SCALE": str(self.scale),
            "CLAUDE_TOKENS_TOKEN_URL": f"{url}/v1/oauth/token",
            "HOME": str(self.folder),
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            **more,
        }

    def start(self, config: Path, worker: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """``claude`` as PATH finds it."""
        pipe = subprocess.PIPE
        environ = self.environ(config, worker, **more)
        argv = [str(self.bin / "claude"), *(arguments or ("-p", "Reply: A"))]
        process = subprocess.Popen(
            argv, env=environ, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, cwd=self.folder
        )
        self.running.append(process)
        return process

    def finish(self) -> list[tuple[int, str]]:
        """Exit status and standard output of all that were started, in that order."""
        done = []
        for process in self.running:
            out, err = process.communicate(timeout=PATIENCE)
            assert err == ""
            done.append((process.returncode, out))
        self.running.clear()
        return done

    def stored(self, config: Path) -> dict[str, Any]:
        return json.loads((config / ".credentials.json").read_text())["claudeAiOauth"]

    def tokens(self) -> list[Any]:
        """The outcomes of the token requests."""
        return [
            event.status or event.error
            for event in list(self.server.journal.events)
            if event.f == "token" and event.type in ("ok", "fail", "info")
        ]

    def told(self, name: str) -> list[str]:
        """The workers that told the event ``tengu_oauth_NAME``."""
        return [record.worker for record in telemetry.read(self.telemetry) if record.event == f"tengu_oauth_{name}"]

    def until(self, reached: Any) -> None:
        """Look again and again, for as long as it takes; a machine may be slow, and nothing here depends on when."""
        clock, never = stopwatch(), threading.Event()
        limit = clock() + PATIENCE
        while not reached():
            assert clock() < limit, "this did not happen"
            never.wait(0.005)

    def hold(self) -> Hold:
        """Keep token requests until :meth:`release`."""
        hold = Hold("token", 99)
        self.server.holds.append(hold)
        return hold

    def release(self, hold: Hold) -> None:
        """Let them go on."""
        with self.server.lock:
            hold.release()

    def asked(self) -> bool:
        """Whether a token request has arrived."""
        return any(event.f == "token" and event.type == "invoke" for event in list(self.server.journal.events))
