"""The credential store on disk: ``.credentials.json``, as each release reads and writes it."""

from __future__ import annotations

import errno
import json
import os
import re
from contextlib import suppress

from pytest_claude_tokens.claude.credentials import FILE
from pytest_claude_tokens.lease import Lease, LeaseHeld

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pytest_claude_tokens.claude.dialects import Dialect
    from pytest_claude_tokens.claude.process import Machine

__all__ = ["EXPIRY_MARGIN_MS", "Login", "Store", "config_dir", "is_real", "real_variable", "store_dir"]

EXPIRY_MARGIN_MS = 300_000
"""A token counts as expired this many milliseconds before it expires."""

_REAL = re.compile(r"sk-ant-o[ar]t01-(?!FAKE)[A-Za-z0-9_-]{90}")
_TOKEN_VARIABLES = ("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_REFRESH_TOKEN")
_COPY_INSTEAD = (errno.EXDEV, errno.EPERM, errno.EEXIST, errno.EBUSY)


class Login:
    """A login as the store has it. ``expires`` is in milliseconds; ``None``: never refreshed, whatever the time."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.access = _text(entry.get("accessToken"))
        self.refresh = _text(entry.get("refreshToken"))
        expires = entry.get("expiresAt")
        self.expires = expires if isinstance(expires, int | float) and not isinstance(expires, bool) else None
        scopes = entry.get("scopes")
        self.scopes = [scope for scope in scopes if isinstance(scope, str)] if isinstance(scopes, list) else None
        self.subscription = _text(entry.get("subscriptionType"))

    def usable(self, dialect: Dialect) -> bool:
        """Whether calls can be made with it: it has the scope, or for 2.1.330 at least a subscription."""
        by_scope = self.scopes is not None and "user:inference" in self.scopes
        return by_scope or (dialect.newest and self.scopes is None and bool(self.subscription))

    def due(self, now: float) -> bool:
        """Whether its access token ends within five minutes, or has ended. ``now`` is in seconds."""
        return self.expires is not None and now * 1000 + EXPIRY_MARGIN_MS >= self.expires


class Store:
    """One ``.credentials.json``. Each write keeps the entries of other programs."""

    def __init__(self, folder: str, dialect: Dialect, machine: Machine) -> None:
        self.folder = folder
        self.path = os.path.join(folder, FILE)
        self._dialect = dialect
        self._machine = machine

    def read(self) -> Login | None:
        """The login, or ``None`` where the file is absent, unreadable or without one."""
        entry = self._document().get("claudeAiOauth")
        return Login(entry) if isinstance(entry, dict) else None

    def update(self, **changes: Any) -> None:
        """Change some fields of the login, and write the file anew. Raises ``OSError``."""
        document = self._document()
        entry = document.get("claudeAiOauth")
        document["claudeAiOauth"] = {**(entry if isinstance(entry, dict) else {}), **changes}
        self._write(json.dumps(document).encode())

    def remove(self) -> None:
        """Forget the login."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def _document(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                document = json.loads(file.read())
        except (OSError, ValueError):  # a half-written file counts as empty; the next read finds it whole
            return {}
        return document if isinstance(document, dict) else {}

    def _write(self, data: bytes) -> None:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        if self._dialect.first:
            self._write_in_place(data)
        elif not self._dialect.inner_lock:
            self._replace(data, os.O_TRUNC)
        else:
            lease = Lease(self.folder, lock_path=os.path.join(self.folder, ".storage-write.lock"), heartbeat=False)
            try:
                lease.acquire(retries=20, pause=lambda _: 0.05, sleep=self._machine.pause)
            except LeaseHeld:  # write all the same: a new login that is not stored is lost
                self._replace(data, os.O_EXCL)
            else:
                try:
                    self._replace(data, os.O_EXCL)
                finally:
                    lease.release()

    def _replace(self, data: bytes, flag: int) -> None:
        """Write a new file, and rename it over the old one: a symlink is replaced, not followed."""
        temporary = f"{self.path}.tmp.{os.urandom(4).hex()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            os.rename(temporary, self.path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            if error.errno not in _COPY_INSTEAD:  # the file itself is a mount, which can't be renamed over
                raise
            self._write_in_place(data)
        else:
            os.chmod(self.path, 0o600)

    def _write_in_place(self, data: bytes) -> None:
        """Truncate, then write: a reader in between sees a torn file."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.chmod(self.path, 0o600)


def config_dir(environ: Mapping[str, str]) -> str:
    """``CLAUDE_CONFIG_DIR``, or ``~/.claude``."""
    return environ.get("CLAUDE_CONFIG_DIR") or os.path.join(environ.get("HOME") or "/", ".claude")


def store_dir(environ: Mapping[str, str], dialect: Dialect) -> str:
    """The folder of the store and its locks; 2.1.330 can have it apart from the configuration."""
    apart = environ.get("CLAUDE_SECURESTORAGE_CONFIG_DIR") if dialect.inner_lock else None
    return apart or config_dir(environ)


def is_real(login: Login) -> bool:
    """Whether a token in it may have been issued by the real service: such a store is never touched."""
    return bool(_REAL.match(login.access) or _REAL.match(login.refresh))


def real_variable(environ: Mapping[str, str]) -> str | None:
    """The name of a variable whose token may have been issued by the real service: such a token is never sent."""
    return next((name for name in _TOKEN_VARIABLES if _REAL.search(environ.get(name, ""))), None)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
