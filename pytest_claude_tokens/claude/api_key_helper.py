"""``apiKeyHelper``: a shell command that prints a key, asked again when the key is older than its time to live."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Any

    from pytest_claude_tokens.claude.dialects import Dialect
    from pytest_claude_tokens.claude.process import Machine

__all__ = ["KeyHelper", "find_helper", "read_settings"]

_TTL_VARIABLE = "CLAUDE_CODE_API_KEY_HELPER_TTL_MS"
_DEFAULT_TTL_MS = 300_000.0
_HELPER_TIMEOUT_SECONDS = 600.0


class KeyHelper:
    """Runs the command, and keeps its key for one process. ``ttl``: for how many seconds.

    An outdated key is used once more while the command runs again in the background; a failure is kept like a key.
    Only :meth:`forget`, after a 401, makes the next request wait for a new key.
    """

    def __init__(self, command: str, ttl: float, machine: Machine) -> None:
        self.command = command
        self.ttl = ttl
        self._machine = machine
        self._key = ""
        self._since: float | None = None
        self._running: subprocess.Popen[str] | None = None

    def key(self) -> str:
        """The key; empty where the command failed or printed none."""
        if self._running is not None and self._running.poll() is not None:
            self._take(self._running)
        if self._since is None:
            self._take(self._running or self._start())
        elif self._machine.now() - self._since > self.ttl and self._running is None:
            self._running = self._start()
        return self._key

    def forget(self) -> None:
        """Drop the key, which the service has refused: the next :meth:`key` waits for the command."""
        self._since = None

    def close(self) -> None:
        """Wait for a command in the background, so that it does not outlive this process."""
        if self._running is not None:
            self._take(self._running)

    def _start(self) -> subprocess.Popen[str]:
        import subprocess

        return subprocess.Popen(
            ["/bin/sh", "-c", self.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=dict(self._machine.environ),
        )

    def _take(self, process: subprocess.Popen[str]) -> None:
        import subprocess

        self._running = None
        try:
            output = process.communicate(timeout=_HELPER_TIMEOUT_SECONDS * self._machine.scale)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            output = ""
        self._key = output.strip() if process.returncode == 0 else ""
        self._since = self._machine.now()


def find_helper(settings: dict[str, Any], machine: Machine, dialect: Dialect) -> KeyHelper | None:
    """The helper that the settings name, if any.

    1.0 reads the time to live from the calling environment alone, as users found out (claude-code#7660, #11639).
    """
    command = settings.get("apiKeyHelper")
    if not isinstance(command, str) or not command.strip():
        return None
    wanted = settings.get("env")
    ttl = _DEFAULT_TTL_MS
    if isinstance(wanted, dict) and not dialect.first:
        try:
            ttl = float(wanted[_TTL_VARIABLE])
        except (KeyError, TypeError, ValueError):
            ttl = _DEFAULT_TTL_MS
    ttl = machine.number(_TTL_VARIABLE, ttl if ttl >= 0 else _DEFAULT_TTL_MS)
    return KeyHelper(command, ttl / 1000, machine)


def read_settings(folder: str, given: str | None) -> dict[str, Any]:
    """``settings.json`` of the config directory, overridden by the file or the JSON text of ``--settings``.

    A project's own settings are not read: they are the user's, and their helper may fetch a real key.
    """
    settings: dict[str, Any] = {}
    for source in (f"{folder}/settings.json", given):
        if source is None:
            continue
        try:
            if source.lstrip().startswith("{"):
                value = json.loads(source)
            else:
                with open(source, encoding="utf-8") as file:
                    value = json.load(file)
        except (OSError, ValueError):
            continue
        if isinstance(value, dict):
            settings.update(value)
    return settings
