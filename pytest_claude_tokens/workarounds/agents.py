"""The workarounds of whole processes that run ``claude -p``: each is a layout of the login that they share.

They are examined with processes that start the fake ``claude``. What stands here does the same inside one program, with
threads for processes: its price is measured on it, and it is examined where this machine can't make the layout.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from fake_server.genuine import json
from pytest_claude_tokens.claude.credentials import FILE
from pytest_claude_tokens.claude.endpoints import MESSAGES_URL, PROMPT, TOKEN_URL
from pytest_claude_tokens.lease import Lease
from pytest_claude_tokens.workarounds.registry import workaround

if TYPE_CHECKING:
    from pytest_claude_tokens.handle.accounts import Account
    from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens

__all__ = ["Agents"]

_RETRIES = 5
_PAUSE_SECONDS = 1.5


class Agents:
    """What ``claude -p`` does with a login in a folder: re-read it under a lock beside it, refresh, store, ask."""

    takes_tokens: bool = True

    def __init__(self, accounts: Sequence[Account], tokens: ClaudeTokens) -> None:
        self.account: Account = accounts[0]
        self.tokens = tokens
        self.shared: Path = tokens.config_dir(self.account)
        self.places: dict[int, Path] = {}

    def make_place(self, number: int) -> Path:
        """The config directory of a new process, as it sees it."""
        return self.shared

    def lock_path(self, folder: Path) -> str:
        """The directory that is the lock of the login in ``folder``."""
        return os.path.realpath(folder) + ".lock"

    def around(self) -> AbstractContextManager[object]:
        """What is around each whole invocation."""
        return nullcontext()

    def call(self) -> None:
        """One invocation of ``claude -p``."""
        thread = threading.get_ident()
        if thread not in self.places:
            self.places[thread] = self.make_place(len(self.places))
        folder = self.places[thread]
        with self.around(), httpx.Client(timeout=600) as client:
            login = _read(folder)
            if _expired(login):
                login = self._refreshed(client, folder)
            headers = {"Authorization": f"Bearer {login['accessToken']}"}
            client.post(MESSAGES_URL, headers=headers, json=PROMPT).raise_for_status()

    def _refreshed(self, client: httpx.Client, folder: Path) -> dict[str, Any]:
        lease = Lease(folder, lock_path=self.lock_path(folder), heartbeat=False)
        lease.acquire(retries=_RETRIES, pause=lambda attempt: _PAUSE_SECONDS)
        try:
            login = _read(folder)
            if _expired(login):
                body = {"grant_type": "refresh_token", "refresh_token": login["refreshToken"], "client_id": "claude"}
                new = client.post(TOKEN_URL, json=body).raise_for_status().json()
                login = {
                    **login,
                    "accessToken": new["access_token"],
                    "refreshToken": new["refresh_token"],
                    "expiresAt": (time.time() + new["expires_in"]) * 1000,
                }
                _write(folder, login)
            return login
        finally:
            lease.release()


def _read(folder: Path) -> dict[str, Any]:
    login: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))["claudeAiOauth"]
    return login


def _expired(login: dict[str, Any]) -> bool:
    return bool(time.time() * 1000 >= login["expiresAt"])


def _write(folder: Path, login: dict[str, Any]) -> None:
    """As Claude Code does it: a new file beside the old one, renamed over it, whatever that was."""
    temporary = folder / f"{FILE}.tmp.{threading.get_ident()}"
    temporary.write_text(json.dumps({"claudeAiOauth": login}), encoding="utf-8")
    temporary.chmod(0o600)
    temporary.replace(folder / FILE)


@workaround("flock-wrapper", accounts=1, layout="flock-wrapper")
class FlockWrapper(Agents):
    """One config directory, and `flock -w 600` around each whole invocation."""

    def __init__(self, accounts: Sequence[Account], tokens: ClaudeTokens) -> None:
        super().__init__(accounts, tokens)
        self.line: list[object] = []
        self.moved: threading.Condition = threading.Condition()

    @contextmanager
    def around(self) -> Iterator[None]:
        """The kernel's lock goes to those who wait in the order of their arrival."""
        me = object()
        with self.moved:
            self.line.append(me)
            self.moved.wait_for(lambda: self.line[0] is me)
        try:
            yield
        finally:
            with self.moved:
                self.line.remove(me)
                self.moved.notify_all()


@workaround("shared-config-dir", accounts=1, layout="shared-config-dir")
class SharedConfigDir(Agents):
    """CLAUDE_CONFIG_DIR names one directory, the same for all: they share its lock."""


@workaround("container-home", accounts=1, layout="container-home")
class ContainerHome(Agents):
    """Containers that mount the config directory into a private home: each has a lock of its own beside it."""

    def lock_path(self, folder: Path) -> str:
        return str(self.tokens.tmp_path / f"home-{threading.get_ident()}.lock")


@workaround("copied-credentials", accounts=1, layout="copied-credentials")
class CopiedCredentials(Agents):
    """A copy of the login for each worker."""

    def make_place(self, number: int) -> Path:
        return self.tokens.config_dir(self.account, name=f"copy{number}")


@workaround("symlinked-dir", accounts=1, layout="symlinked-dir")
class SymlinkedDir(Agents):
    """Each config directory is a symlink to one directory, beside which the lock lies."""

    def make_place(self, number: int) -> Path:
        link = self.tokens.tmp_path / f"link{number}"
        link.symlink_to(self.shared)
        return link


@workaround("symlinked-file", accounts=1, layout="symlinked-file")
class SymlinkedFile(Agents):
    """Each credentials file is a symlink to one file, until a refresh puts a private file in its place."""

    def make_place(self, number: int) -> Path:
        folder = self.tokens.tmp_path / f"private{number}"
        folder.mkdir(mode=0o700)
        (folder / FILE).symlink_to(self.shared / FILE)
        self.tokens.watch_store(folder, self.account)
        return folder


@workaround("setup-token", accounts=1, layout="setup-token")
class SetupToken(Agents):
    """One token of `claude setup-token`, good for a year, in the environment of each: nothing is refreshed."""

    def call(self) -> None:
        headers = {"Authorization": f"Bearer {self.account.access_token}"}
        with httpx.Client(timeout=600) as client:
            client.post(MESSAGES_URL, headers=headers, json=PROMPT).raise_for_status()
